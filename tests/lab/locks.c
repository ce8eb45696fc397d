// SPDX-License-Identifier: Apache-2.0
// Locks and renames in a guest's shared folder, or in the same folder on the host.
//   locks hold KIND FILE SECONDS    takes the lock and says so: "held"; KIND is flock or fcntl
//   locks try KIND FILE             "free" or "taken"
//   locks wait KIND FILE            "had", once it has it
//   locks exchange FILE FILE        and noreplace: renameat2 with that flag; its errno is the exit status
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

static int take(const char *kind, int file, int waits) {
    if (strcmp(kind, "flock") == 0) return flock(file, LOCK_EX | (waits ? 0 : LOCK_NB));
    struct flock all = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    return fcntl(file, waits ? F_SETLKW : F_SETLK, &all);
}

int main(int count, char **word) {
    if (count < 4) return 255;
    if (strcmp(word[1], "exchange") == 0 || strcmp(word[1], "noreplace") == 0) {
        const unsigned flag = word[1][0] == 'e' ? RENAME_EXCHANGE : RENAME_NOREPLACE;
        return renameat2(AT_FDCWD, word[2], AT_FDCWD, word[3], flag) == 0 ? 0 : errno;
    }
    const int file = open(word[3], O_RDWR | O_CREAT, 0666);
    if (file < 0) return 254;
    const int taken = take(word[2], file, strcmp(word[1], "wait") == 0);
    if (strcmp(word[1], "try") == 0) puts(taken == 0 ? "free" : "taken");
    else if (taken != 0) return errno;
    else puts(strcmp(word[1], "hold") == 0 ? "held" : "had");
    fflush(stdout);
    if (count > 4) sleep((unsigned)atoi(word[4]));
    return 0;
}
