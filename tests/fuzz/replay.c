// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Stands in for libFuzzer where there is no clang: runs a fuzz target over files, no more.
 *
 * Arguments are files and directories of inputs; what starts with '-' is an option of libFuzzer and
 * ignored. Without an input the empty one is run.
 */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#define INPUT_MAX (1 << 20)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static unsigned inputs;

static int run_file(const char *path)
{
    FILE *file = fopen(path, "rb");
    uint8_t *data;
    size_t size;

    if (!file) {
        perror(path);
        return -1;
    }
    data = malloc(INPUT_MAX);
    size = data ? fread(data, 1, INPUT_MAX, file) : 0;
    fclose(file);
    if (data) {
        LLVMFuzzerTestOneInput(data, size);
    }
    free(data);
    inputs++;
    return 0;
}

static int run_directory(const char *path)
{
    DIR *dir = opendir(path);
    struct dirent *entry;
    int status = 0;

    if (!dir) {
        perror(path);
        return -1;
    }
    while ((entry = readdir(dir))) {
        char name[4096];

        snprintf(name, sizeof(name), "%s/%s", path, entry->d_name);
        if (entry->d_name[0] != '.' && run_file(name)) {
            status = -1;
        }
    }
    closedir(dir);
    return status;
}

static int run(const char *path)
{
    struct stat st;

    if (stat(path, &st)) {
        perror(path);
        return -1;
    }
    return S_ISDIR(st.st_mode) ? run_directory(path) : run_file(path);
}

int main(int argc, char **argv)
{
    int status = 0;

    for (int i = 1; i < argc; i++) {
        if (argv[i][0] != '-' && run(argv[i])) {
            status = 1;
        }
    }
    LLVMFuzzerTestOneInput((const uint8_t *)"", 0);
    printf("%u inputs\n", inputs);
    return status;
}
