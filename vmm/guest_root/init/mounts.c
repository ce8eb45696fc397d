// SPDX-License-Identifier: Apache-2.0
#include "init.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { patience = 1000, pause_ms = 10 }; // a device may come late: behind an IOMMU it is probed twice

static void wait_a_moment(void) { nanosleep(&(struct timespec){0, pause_ms * 1000000L}, NULL); }

void mount_early(void) {
    mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL);
    mount("sysfs", "/sys", "sysfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL);
    mount("devtmpfs", "/dev", "devtmpfs", MS_NOSUID, "mode=755");
}

// The block device whose serial number is `name`, in `out`: "vda"
static int find_disk(const char *name, char *out, size_t size) {
    DIR *blocks = opendir("/sys/block");
    int found = 0;
    if (!blocks) return 0;
    for (struct dirent *entry; !found && (entry = readdir(blocks));) {
        char path[512], serial[64] = "";
        snprintf(path, sizeof path, "/sys/block/%s/serial", entry->d_name);
        const int file = open(path, O_RDONLY | O_CLOEXEC);
        if (file < 0) continue;
        const ssize_t count = read(file, serial, sizeof serial - 1);
        close(file);
        if (count <= 0) continue;
        serial[strcspn(serial, "\n")] = 0;
        found = strcmp(serial, name) == 0 && snprintf(out, size, "%s", entry->d_name) < (int)size;
    }
    closedir(blocks);
    return found;
}

static const char *where_modules_are(const struct orders *orders) {
    static char text[1024];
    if (*orders->modules_from)
        snprintf(text, sizeof text, "the modules came from %s", orders->modules_from);
    else
        snprintf(text, sizeof text, "no modules were found: name their folder with --modules");
    return text;
}

static void cannot_mount(const struct orders *orders, const char *what, const char *driver) {
    if (errno == ENODEV)
        fail("cannot mount %s: the kernel has no %s (%s)", what, driver, where_modules_are(orders));
    fail("cannot mount %s as %s: %m", what, driver);
}

static void mount_disk(const struct orders *orders, const char *to) {
    // A journal that was not closed cannot be replayed on a disk that is read only
    static const char *const unclean[][2] = {
        {"ext4", "noload"}, {"xfs", "norecovery"}, {"btrfs", "rescue=nologreplay"}};
    char disk[64], path[160];
    int tries = 0;
    while (!find_disk(orders->name, disk, sizeof disk))
        if (++tries == patience)
            fail("the root's disk does not appear: the kernel needs virtio_blk and virtio_pci or virtio_mmio (%s)",
                 where_modules_are(orders));
        else
            wait_a_moment();
    if (orders->partition)
        snprintf(path, sizeof path, "/dev/%s%u", disk, orders->partition);
    else
        snprintf(path, sizeof path, "/dev/%s", disk);
    const unsigned long flags = orders->writable ? 0 : MS_RDONLY;
    if (mount(path, to, orders->type, flags, NULL) == 0) return;
    for (size_t i = 0; !orders->writable && i < sizeof unclean / sizeof *unclean; ++i)
        if (strcmp(unclean[i][0], orders->type) == 0 && mount(path, to, orders->type, flags, unclean[i][1]) == 0) return;
    cannot_mount(orders, path, orders->type);
}

static void mount_folder(const struct orders *orders, const char *to) {
    const unsigned long flags = orders->writable ? 0 : MS_RDONLY;
    for (int tries = 0; mount(orders->name, to, "virtiofs", flags, NULL) < 0; ++tries) {
        if (errno != EINVAL || tries == patience) cannot_mount(orders, "the root's folder", "virtiofs");
        wait_a_moment();
    }
}

// Writes go to memory. The top folder is as the root's own.
static void mount_overlay(const struct orders *orders) {
    struct stat status;
    if (mount("writes", "/writes", "tmpfs", 0, "mode=755") < 0) fail("cannot mount a tmpfs for what is written: %m");
    mkdir("/writes/upper", 0755);
    mkdir("/writes/work", 0755);
    if (stat("/lower", &status) == 0) {
        if (chown("/writes/upper", status.st_uid, status.st_gid) < 0) { /* then root's */ }
        chmod("/writes/upper", status.st_mode & 07777);
    }
    if (mount("root", "/root", "overlay", 0, "lowerdir=/lower,upperdir=/writes/upper,workdir=/writes/work") < 0)
        cannot_mount(orders, "the root's writable layer", "overlay");
}

void mount_root(const struct orders *orders) {
    const char *to = orders->writable ? "/root" : "/lower";
    if (strcmp(orders->root, "archive") == 0) {
        if (mount("/root", "/root", NULL, MS_BIND, NULL) < 0) fail("cannot use the archive's files as a root: %m");
        return;
    }
    if (strcmp(orders->root, "disk") == 0)
        mount_disk(orders, to);
    else
        mount_folder(orders, to);
    if (!orders->writable) mount_overlay(orders);
}

// Folders that a root may lack; where it is read only, so be it
static void mount_in_root(const char *path, const char *type, unsigned long flags, const char *options) {
    mkdir(path, 0755);
    mount(type, path, type, flags, options);
}

void enter_root(void) {
    static const char *const moved[] = {"/dev", "/proc", "/sys"};
    char path[64];
    for (size_t i = 0; i < sizeof moved / sizeof *moved; ++i) {
        snprintf(path, sizeof path, "/root%s", moved[i]);
        mkdir(path, 0755);
        if (mount(moved[i], path, NULL, MS_MOVE, NULL) < 0)
            say("the root has no %s, and it cannot be made: %m", moved[i]);
    }
    if (chdir("/root") < 0 || mount(".", "/", NULL, MS_MOVE, NULL) < 0 || chroot(".") < 0 || chdir("/") < 0)
        fail("cannot enter the root: %m");
    const unsigned long safe = MS_NOSUID | MS_NODEV;
    mount_in_root("/dev/pts", "devpts", MS_NOSUID | MS_NOEXEC, "gid=5,mode=620,ptmxmode=666");
    mount_in_root("/dev/shm", "tmpfs", safe, "mode=1777");
    mount_in_root("/run", "tmpfs", safe, "mode=755");
    mount("cgroup2", "/sys/fs/cgroup", "cgroup2", safe | MS_NOEXEC, NULL);
    mount("debugfs", "/sys/kernel/debug", "debugfs", safe | MS_NOEXEC, NULL);
    mount("tracefs", "/sys/kernel/tracing", "tracefs", safe | MS_NOEXEC, NULL);
    if (mkdir("/tmp", 01777) == 0) chmod("/tmp", 01777);
    if (symlink("/proc/self/fd", "/dev/fd") == 0) {
        if (symlink("/proc/self/fd/0", "/dev/stdin") < 0) {}
        if (symlink("/proc/self/fd/1", "/dev/stdout") < 0) {}
        if (symlink("/proc/self/fd/2", "/dev/stderr") < 0) {}
    }
    if (sethostname("inox", 4) < 0) {}
}

// What the root has itself is not hidden, and a folder is made only where that stays in the guest
void show_modules(const struct orders *orders) {
    char path[256], list[300];
    snprintf(path, sizeof path, "/lib/modules/%s", orders->release);
    snprintf(list, sizeof list, "%s/modules.dep", path);
    if (!*orders->release || access(list, F_OK) == 0) return;
    if (!orders->writable) {
        mkdir("/lib", 0755);
        mkdir("/lib/modules", 0755);
        mkdir(path, 0755);
    }
    if (*orders->modules_here)
        mount(orders->modules_here, path, NULL, MS_BIND, NULL);
    else
        mount("inox-modules", path, "virtiofs", MS_RDONLY, NULL);
}

void loopback_up(void) {
    struct ifreq request = {.ifr_name = "lo"};
    const int socket_file = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (socket_file < 0) return;
    if (ioctl(socket_file, SIOCGIFFLAGS, &request) == 0) {
        request.ifr_flags |= IFF_UP;
        ioctl(socket_file, SIOCSIFFLAGS, &request);
    }
    close(socket_file);
}
