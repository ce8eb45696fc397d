// SPDX-License-Identifier: Apache-2.0
// Stands for a VMM in a jail: says what it is and has, as lines KEY VALUE, in /report and on standard output. The last
// argument may be "stay": then it waits for a signal.
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

extern char** environ;

static void limit(const char* name, int resource) {
    struct rlimit value;
    getrlimit(resource, &value);
    printf("limit %s %lld %lld\n", name, (long long)value.rlim_cur, (long long)value.rlim_max);
}

static void file(const char* path) {
    struct stat s;
    if (lstat(path, &s) != 0)
        printf("file %s none\n", path);
    else
        printf("file %s %06o %u %u %u:%u\n", path, s.st_mode, s.st_uid, s.st_gid, major(s.st_rdev), minor(s.st_rdev));
}

int main(int argc, char** argv) {
    printf("arguments");
    for (int i = 0; i < argc; ++i)
        printf(" %s", argv[i]);
    printf("\nuser %u %u\ngroups %d\npid %d\nsession %s\n", getuid(), getgid(), getgroups(0, NULL), getpid(),
           getsid(0) == getpid() ? "own" : "inherited");
    int variables = 0;
    while (environ[variables] != NULL)
        ++variables;
    printf("variables %d\n", variables);
    printf("descriptors");
    for (int fd = 0; fd < 64; ++fd)
        if (fcntl(fd, F_GETFD) >= 0)
            printf(" %d", fd);
    printf("\nnew-privileges %s\n", prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1 ? "never" : "possible");
    struct {
        unsigned version;
        int pid;
    } header = {0x20080522, 0};
    unsigned sets[6] = {0};
    syscall(SYS_capget, &header, sets);
    printf("capabilities %x%08x\n", sets[3], sets[0]);
    limit("no-file", RLIMIT_NOFILE);
    limit("fsize", RLIMIT_FSIZE);
    limit("core", RLIMIT_CORE);
    limit("memlock", RLIMIT_MEMLOCK);
    DIR* root = opendir("/");
    for (struct dirent* entry; root != NULL && (entry = readdir(root)) != NULL;)
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            printf("has %s\n", entry->d_name);
    const char* paths[] = {"/", "/dev", "/dev/net", "/run", "/dev/net/tun", "/dev/kvm", "/dev/urandom",
                           "/dev/userfaultfd", "/dev/zero", argv[0]};
    for (unsigned i = 0; i < sizeof paths / sizeof *paths; ++i)
        file(paths[i]);
    char text[64] = "";
    for (int i = 1; i < argc; ++i) {
        if (strncmp(argv[i], "read=", 5) != 0)
            continue;
        const int fd = open(argv[i] + 5, O_RDONLY);
        const ssize_t got = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
        printf("read %s %s\n", argv[i] + 5, got < 0 ? "nothing" : text);
        printf("write %s %s\n", argv[i] + 5, open(argv[i] + 5, O_WRONLY) < 0 ? "refused" : "possible");
    }
    fflush(stdout);
    const int report = open("/report", O_WRONLY | O_CREAT | O_TRUNC, 0644);
    dprintf(report, "pid %d\nuser %u\ndescriptors", getpid(), getuid());
    for (int fd = 0; fd < 64; ++fd)
        if (fd != report && fcntl(fd, F_GETFD) >= 0)
            dprintf(report, " %d", fd);
    dprintf(report, "\nready\n");
    close(report);
    if (strcmp(argv[argc - 1], "stay") == 0)
        for (;;)
            pause();
    return 7;
}
