/* Fails calls to the disk while a trigger file is there; see `Disk` in the test kit. Loaded with LD_PRELOAD. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

#define ROOM 4096

/* The folder with the triggers and the log; none: no faults. */
static const char *folder(void) { return getenv("LINKSPAN_TEST_FAULTS"); }

static int path_of(int fd, char path[ROOM]) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, ROOM - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return 1;
}

/* Whether calls of this kind on this file shall fail now. */
static int fails(const char *kind, int fd) {
    if (!folder()) return 0;
    int before = errno, hit = 0;
    char trigger[ROOM], pattern[256], path[ROOM];
    snprintf(trigger, sizeof trigger, "%s/%s", folder(), kind);
    int file = (int)syscall(SYS_openat, AT_FDCWD, trigger, O_RDONLY | O_CLOEXEC, 0);
    if (file >= 0) {
        ssize_t length = syscall(SYS_read, file, pattern, sizeof pattern - 1);
        syscall(SYS_close, file);
        if (length > 0 && path_of(fd, path)) {
            pattern[length] = 0;
            if (pattern[length - 1] == '$') {
                pattern[length - 1] = 0;
                size_t tail = strlen(pattern), whole = strlen(path);
                hit = whole >= tail && strcmp(path + whole - tail, pattern) == 0;
            } else {
                hit = strstr(path, pattern) != NULL;
            }
        }
    }
    errno = before;
    return hit;
}

static void note(int fd, int failed) {
    if (!folder()) return;
    int before = errno;
    char log[ROOM], path[ROOM], line[ROOM + 16];
    snprintf(log, sizeof log, "%s/log", folder());
    if (path_of(fd, path)) {
        int length = snprintf(line, sizeof line, "%s %s\n", failed ? "failed" : "synced", path);
        int file = (int)syscall(SYS_openat, AT_FDCWD, log, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
        if (file >= 0) {
            syscall(SYS_write, file, line, (size_t)length);
            syscall(SYS_close, file);
        }
    }
    errno = before;
}

static int sync_by(long call, int fd) {
    int failed = fails("sync", fd);
    note(fd, failed);
    if (failed) {
        errno = EIO;
        return -1;
    }
    return (int)syscall(call, fd);
}

int fsync(int fd) { return sync_by(SYS_fsync, fd); }

int fdatasync(int fd) { return sync_by(SYS_fdatasync, fd); }

static int full(int fd) {
    if (!fails("write", fd)) return 0;
    errno = ENOSPC;
    return 1;
}

ssize_t write(int fd, const void *bytes, size_t count) {
    return full(fd) ? -1 : syscall(SYS_write, fd, bytes, count);
}

ssize_t pwrite(int fd, const void *bytes, size_t count, off_t offset) {
    return full(fd) ? -1 : syscall(SYS_pwrite64, fd, bytes, count, offset);
}

ssize_t pwrite64(int fd, const void *bytes, size_t count, off64_t offset) {
    return full(fd) ? -1 : syscall(SYS_pwrite64, fd, bytes, count, offset);
}
