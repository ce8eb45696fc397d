// SPDX-License-Identifier: Apache-2.0
#include "init.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static int load(const char *path) {
    const int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0) return -1;
    const long result = syscall(SYS_finit_module, file, "", 0);
    const int error = errno;
    close(file);
    errno = error;
    return (int)result;
}

// A file in the RAM disk is memory, which the guest gets back
void load_modules(char **paths) {
    for (char **path = paths; *path; ++path) {
        if (load(*path) < 0 && errno != EEXIST && errno != ENODEV && errno != ENOENT)
            say("the module %s cannot be loaded: %m", strrchr(*path, '/') + 1);
        unlink(*path);
    }
}
