// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The test ROM: enters flat 32-bit mode and obeys the mailbox that rom.h describes.
 *
 * Small enough to run where Linux cannot: a KVM that is built on PVM runs it too. There the
 * descriptors must have their accessed bit set beforehand, else loading CS writes to the ROM.
 *
 * Build: gcc -m32 -c rom.S -o rom.o
 *        ld -m elf_i386 -Ttext=0xf0000 --oformat binary rom.o -o rom.bin
 *
 * There is no stack: a command ends by a jump to `finish`.
 * Registers while a command runs: ebx mailbox, edi address, esi stride, ecx words left, edx value.
 */
#include "rom.h"

#define MAILBOX(field) ROM_AT_##field(%ebx)

#define CODE_SELECTOR 8
#define DATA_SELECTOR 16

        .text
        .code16
        .globl  _start
_start: cli
        movb    $2, %al                         /* A20 on */
        outb    %al, $0x92
        lgdtl   %cs:(gdt_pointer - _start)
        movl    %cr0, %eax
        orb     $1, %al
        movl    %eax, %cr0
        ljmpl   $CODE_SELECTOR, $flat

        .code32
flat:   movw    $DATA_SELECTOR, %ax
        movw    %ax, %ds
        movw    %ax, %es
        movw    %ax, %ss
        movl    $ROM_MAILBOX, %ebx
        movl    $ROM_IDLE, MAILBOX(COMMAND)
        movl    $0, MAILBOX(STOP)
        movl    $0, MAILBOX(DONE)
        movl    $ROM_MAGIC, MAILBOX(MAGIC)

poll:   pause
        movl    MAILBOX(COMMAND), %eax
        testl   %eax, %eax
        jz      poll
        cmpl    $ROM_COMMANDS, %eax
        jae     finish
        movl    MAILBOX(BASE), %edi
        movl    MAILBOX(STRIDE), %esi
        movl    MAILBOX(COUNT), %ecx
        movl    MAILBOX(VALUE), %edx
        jmp     *commands(, %eax, 4)

finish: movl    $ROM_IDLE, MAILBOX(COMMAND)
        incl    MAILBOX(DONE)
        jmp     poll

write:  movl    %edx, (%edi)
        incl    %edx
        addl    %esi, %edi
        loop    write
        jmp     finish

add:    addl    %edx, (%edi)
        addl    %esi, %edi
        loop    add
        jmp     finish

read:   xorl    %eax, %eax
1:      addl    (%edi), %eax
        addl    %esi, %edi
        loop    1b
        movl    %eax, MAILBOX(RESULT)
        jmp     finish

check:  xorl    %eax, %eax                      /* words that were wrong */
        xorl    %ebp, %ebp                      /* address of the first */
1:      cmpl    %edx, (%edi)
        je      3f
        testl   %eax, %eax
        jnz     2f
        movl    %edi, %ebp
2:      incl    %eax
3:      incl    %edx
        addl    %esi, %edi
        loop    1b
        movl    %eax, MAILBOX(RESULT)
        movl    %ebp, MAILBOX(FIRST_BAD)
        jmp     finish

spin:   movl    $0, MAILBOX(ROUNDS)
1:      movl    MAILBOX(BASE), %edi
        movl    MAILBOX(COUNT), %ecx
2:      incl    (%edi)
        addl    %esi, %edi
        loop    2b
        incl    MAILBOX(ROUNDS)
        cmpl    $0, MAILBOX(STOP)
        je      1b
        movl    $0, MAILBOX(STOP)
        jmp     finish

        .balign 8
commands:
        .long   finish, write, add, read, check, spin

        .balign 8
gdt:    .quad   0
        .quad   0x00cf9b000000ffff              /* flat code, accessed */
        .quad   0x00cf93000000ffff              /* flat data, accessed */
gdt_pointer:
        .word   . - gdt - 1
        .long   gdt

/* The processor starts here, in real mode, 16 bytes below the top of memory. */
        .org    ROM_SIZE - 16
        .code16
        ljmp    $(ROM_LOAD >> 4), $0
        .org    ROM_SIZE
