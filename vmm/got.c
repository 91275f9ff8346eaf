// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Hooks in the main program's import tables; the only file that writes to QEMU's own data.
 *
 * How it works. A call of a library function goes through a pointer in the program's global offset
 * table (GOT), which the loader fills in as its relocation tables say. Those tables (DT_JMPREL for
 * calls, DT_RELA for addresses taken) stay in memory, so the pointers of one symbol are found by
 * name and swapped. The GOT is read-only once the program runs (RELRO); the page is writable for
 * the moment of the swap. A pointer is one aligned word: other threads see the old or the new one.
 *
 * A program bound lazily would write the real address over a hook at its first call, so only
 * programs bound at start are accepted. QEMU's build asks for that, and so do distributions.
 */
#include "vmm/got.h"

#include <dlfcn.h>
#include <elf.h>
#include <errno.h>
#include <link.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#ifndef __x86_64__
#error "got.c knows the relocations of x86-64 only"
#endif

struct table {
    const Elf64_Rela *entry;
    size_t n;
};

struct image {
    uintptr_t base;
    const Elf64_Sym *symbols;
    const char *strings;
    struct table calls, data;
    uintptr_t relro, relro_end;
    bool bound_at_start;
};

/* glibc turns the addresses in the dynamic section into absolute ones, other loaders do not. */
static const void *at(const struct image *image, Elf64_Addr address)
{
    return (const void *)(address < image->base ? image->base + address : address);
}

static void read_dynamic(struct image *image, const Elf64_Dyn *d)
{
    for (; d->d_tag != DT_NULL; d++) {
        switch (d->d_tag) {
        case DT_SYMTAB: image->symbols = at(image, d->d_un.d_ptr); break;
        case DT_STRTAB: image->strings = at(image, d->d_un.d_ptr); break;
        case DT_JMPREL: image->calls.entry = at(image, d->d_un.d_ptr); break;
        case DT_PLTRELSZ: image->calls.n = d->d_un.d_val / sizeof(Elf64_Rela); break;
        case DT_RELA: image->data.entry = at(image, d->d_un.d_ptr); break;
        case DT_RELASZ: image->data.n = d->d_un.d_val / sizeof(Elf64_Rela); break;
        case DT_BIND_NOW: image->bound_at_start = true; break;
        case DT_FLAGS: image->bound_at_start |= (d->d_un.d_val & DF_BIND_NOW) != 0; break;
        case DT_FLAGS_1: image->bound_at_start |= (d->d_un.d_val & DF_1_NOW) != 0; break;
        default: break;
        }
    }
}

/* The first object reported is the main program. */
static int read_program(struct dl_phdr_info *info, size_t size, void *opaque)
{
    struct image *image = opaque;
    const Elf64_Dyn *dynamic = NULL;
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);

    (void)size;
    image->base = info->dlpi_addr;
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const Elf64_Phdr *ph = &info->dlpi_phdr[i];
        uintptr_t start = info->dlpi_addr + ph->p_vaddr;

        if (ph->p_type == PT_DYNAMIC)
            dynamic = (const Elf64_Dyn *)start;
        if (ph->p_type == PT_GNU_RELRO) {
            image->relro = start & ~(page - 1);
            image->relro_end = (start + ph->p_memsz) & ~(page - 1);
        }
    }
    if (dynamic)
        read_dynamic(image, dynamic);
    return 1;
}

static int read_image(struct image *image)
{
    *image = (struct image){ 0 };
    dl_iterate_phdr(read_program, image);
    if (!image->symbols || !image->strings)
        return -ENOEXEC;
    return image->bound_at_start || getenv("LD_BIND_NOW") ? 0 : -ENOTSUP;
}

static bool is_for(const struct image *image, const Elf64_Rela *r, const char *symbol)
{
    unsigned type = ELF64_R_TYPE(r->r_info);
    const Elf64_Sym *s = &image->symbols[ELF64_R_SYM(r->r_info)];

    if (type != R_X86_64_JUMP_SLOT && type != R_X86_64_GLOB_DAT && type != R_X86_64_64)
        return false;
    return !r->r_addend && s->st_shndx == SHN_UNDEF && !strcmp(image->strings + s->st_name, symbol);
}

static int swap(const struct image *image, void **slot, void *value)
{
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    uintptr_t start = (uintptr_t)slot & ~(page - 1);
    bool locked = (uintptr_t)slot >= image->relro && (uintptr_t)slot < image->relro_end;

    if (locked && mprotect((void *)start, page, PROT_READ | PROT_WRITE))
        return -errno;
    __atomic_store_n(slot, value, __ATOMIC_RELEASE);
    if (locked && mprotect((void *)start, page, PROT_READ))
        return -errno;
    return 0;
}

/*
 * Counts the entries; with a replacement, swaps them. Pointers that meanwhile hold something else
 * than the first one found (a variable the program has assigned) are none of ours.
 */
static int walk(const char *symbol, void *replacement, void **original)
{
    struct image image;
    const struct table *const tables[] = { &image.calls, &image.data };
    void *first = NULL;
    int n = 0, rc = read_image(&image);

    for (size_t t = 0; t < 2 && !rc; t++) {
        for (size_t i = 0; i < tables[t]->n && !rc; i++) {
            const Elf64_Rela *r = &tables[t]->entry[i];
            void **slot = (void **)(image.base + r->r_offset);

            if (!is_for(&image, r, symbol) || (first && *slot != first))
                continue;
            first = *slot;
            n++;
            if (replacement) {
                __atomic_store_n(original, first, __ATOMIC_RELEASE);
                rc = swap(&image, slot, replacement);
            }
        }
    }
    return rc ? rc : n;
}

int got_hook(const char *symbol, void *replacement, void **original)
{
    return walk(symbol, replacement, original);
}

int got_count(const char *symbol)
{
    return walk(symbol, NULL, NULL);
}

bool got_defines(const char *symbol)
{
    struct image image = { 0 };
    Dl_info info;
    void *address = dlsym(RTLD_DEFAULT, symbol);
    const void *own;

    dl_iterate_phdr(read_program, &image);
    own = image.symbols;
    if (!address || !dladdr(address, &info) || !own)
        return false;
    address = info.dli_fbase;
    return dladdr(own, &info) && info.dli_fbase == address;
}
