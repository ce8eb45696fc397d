// SPDX-License-Identifier: Apache-2.0
#include "init.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char *load(size_t *out_size) {
    char *text;
    size_t size = 0;
    struct stat status;
    const int file = open("/orders", O_RDONLY | O_CLOEXEC);
    if (file < 0 || fstat(file, &status) < 0) fail("there are no orders for init: %m");
    text = malloc((size_t)status.st_size + 1);
    if (!text) fail("there is no memory for init's orders: give the guest more with --memory");
    while (size < (size_t)status.st_size) {
        const ssize_t count = read(file, text + size, (size_t)status.st_size - size);
        if (count <= 0) fail("init's orders cannot be read: %m");
        size += (size_t)count;
    }
    text[size] = 0;
    close(file);
    *out_size = size;
    return text;
}

// The values of all records of this key, and a null pointer behind them
static char **all(char *text, size_t size, const char *key) {
    const size_t length = strlen(key);
    size_t count = 0;
    char **out = NULL;
    for (int pass = 0; pass < 2; ++pass) {
        size_t at = 0;
        if (pass == 1) out = calloc(count + 1, sizeof *out);
        if (pass == 1 && !out) fail("there is no memory for init's orders: give the guest more with --memory");
        count = 0;
        for (char *record = text; record < text + size; record += strlen(record) + 1)
            if (strncmp(record, key, length) == 0 && record[length] == '=') {
                if (pass == 1) out[at++] = record + length + 1;
                ++count;
            }
    }
    return out;
}

static const char *one(char *text, size_t size, const char *key) {
    char **values = all(text, size, key);
    const char *value = values[0] ? values[0] : "";
    free(values);
    return value;
}

struct orders parse_orders(char *text, size_t size) {
    struct orders orders = {
        .root = one(text, size, "root"),
        .name = one(text, size, "name"),
        .type = one(text, size, "type"),
        .modules_from = one(text, size, "modules"),
        .directory = one(text, size, "directory"),
        .release = one(text, size, "release"),
        .modules_here = one(text, size, "modules-here"),
        .terminal_name = one(text, size, "terminal-name"),
        .partition = (unsigned)atoi(one(text, size, "partition")),
        .writable = atoi(one(text, size, "writable")),
        .terminal = atoi(one(text, size, "terminal")),
        .modules = all(text, size, "module"),
        .arguments = all(text, size, "argument"),
        .environment = all(text, size, "env"),
    };
    if (sscanf(one(text, size, "window"), "%u %u", &orders.rows, &orders.columns) != 2)
        orders.rows = orders.columns = 0;
    return orders;
}

struct orders read_orders(void) {
    size_t size;
    char *text = load(&size);
    unlink("/orders");
    return parse_orders(text, size);
}
