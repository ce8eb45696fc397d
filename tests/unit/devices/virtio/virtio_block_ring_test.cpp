// SPDX-License-Identifier: Apache-2.0
#include <array>
#include <cerrno>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "devices/virtio/block/ring.hpp"
#include "tests/catch.hpp"

namespace inox::virtio_block_ring_test {

using devices::virtio::open_ring;

namespace {

struct Ring {
    io_uring ring{};
    int error{open_ring(ring, 8)};
    Ring() = default;
    Ring(const Ring&) = delete;
    Ring& operator=(const Ring&) = delete;
    ~Ring() {
        if (error == 0)
            ::io_uring_queue_exit(&ring);
    }
    /// The result of one entry.
    int result(void (*prepare)(io_uring_sqe&)) {
        io_uring_sqe* entry = ::io_uring_get_sqe(&ring);
        prepare(*entry);
        if (const int submitted = ::io_uring_submit(&ring); submitted < 0)
            return submitted;
        io_uring_cqe* completion = nullptr;
        if (const int waited = ::io_uring_wait_cqe(&ring, &completion); waited < 0)
            return waited;
        const int out = completion->res;
        ::io_uring_cqe_seen(&ring, completion);
        return out;
    }
};

int zeroes() {
    static const int fd = ::open("/dev/zero", O_RDONLY | O_CLOEXEC);
    return fd;
}

} // namespace

TEST_CASE("a ring does the I/O of disks and nothing else") {
    Ring ring;
    if (ring.error != 0) {
        WARN("skipped: the kernel refuses io_uring, or to restrict it");
        return;
    }
    static std::array<char, 16> bytes;
    static iovec piece{bytes.data(), bytes.size()};
    CHECK(ring.result([](io_uring_sqe& entry) { ::io_uring_prep_readv(&entry, zeroes(), &piece, 1, 0); }) == 16);
    CHECK(ring.result([](io_uring_sqe& entry) {
        ::io_uring_prep_openat(&entry, AT_FDCWD, "/dev/null", O_RDONLY, 0);
    }) == -EACCES);
    CHECK(ring.result([](io_uring_sqe& entry) {
        static const sockaddr address{AF_UNIX, {}};
        ::io_uring_prep_connect(&entry, zeroes(), &address, sizeof address);
    }) == -EACCES);
    CHECK(ring.result([](io_uring_sqe& entry) { ::io_uring_prep_unlinkat(&entry, AT_FDCWD, "/dev/null", 0); }) ==
          -EACCES);
    CHECK(ring.result([](io_uring_sqe& entry) { ::io_uring_prep_close(&entry, zeroes()); }) == -EACCES);
    CHECK(ring.result([](io_uring_sqe& entry) {
        ::io_uring_prep_readv(&entry, zeroes(), &piece, 1, 0);
        entry.flags |= IOSQE_IO_DRAIN;
    }) == -EACCES);
    CHECK(::syscall(__NR_io_uring_register, ring.ring.ring_fd, IORING_REGISTER_BUFFERS, &piece, 1) == -1);
    CHECK(errno == EACCES);
}

} // namespace inox::virtio_block_ring_test
