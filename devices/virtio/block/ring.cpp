// SPDX-License-Identifier: Apache-2.0
#include "devices/virtio/block/ring.hpp"

#include <array>
#include <cerrno>
#include <sys/syscall.h>
#include <unistd.h>

namespace inox::devices::virtio {
namespace {

/// io_uring_register(2). liburing has functions for both uses, but Debian 12's shared library does not export them.
int do_register(const io_uring& ring, unsigned what, void* argument, std::size_t count) noexcept {
    return ::syscall(__NR_io_uring_register, ring.ring_fd, what, argument, count) < 0 ? -errno : 0; // NOLINT(*-vararg)
}

int restrict_ring(io_uring& ring) noexcept {
    constexpr std::array operations{IORING_OP_READV, IORING_OP_WRITEV, IORING_OP_FSYNC, IORING_OP_FALLOCATE,
                                    IORING_OP_ASYNC_CANCEL};
    std::array<io_uring_restriction, operations.size() + 1> rules{};
    for (std::size_t i = 0; i < operations.size(); ++i) {
        rules.at(i).opcode = IORING_RESTRICTION_SQE_OP;
        rules.at(i).sqe_op = operations.at(i);
    }
    rules.back().opcode = IORING_RESTRICTION_SQE_FLAGS_ALLOWED;
    rules.back().sqe_flags = IOSQE_ASYNC;
    const int restricted = do_register(ring, IORING_REGISTER_RESTRICTIONS, rules.data(), rules.size());
    return restricted < 0 ? restricted : do_register(ring, IORING_REGISTER_ENABLE_RINGS, nullptr, 0);
}

} // namespace

int open_ring(io_uring& ring, unsigned depth) noexcept {
    // COOP_TASKRUN: completions do not interrupt this thread. The flag is newer (5.19) than all else that is used here.
    int result = ::io_uring_queue_init(depth, &ring, IORING_SETUP_COOP_TASKRUN | IORING_SETUP_R_DISABLED);
    if (result == -EINVAL)
        result = ::io_uring_queue_init(depth, &ring, IORING_SETUP_R_DISABLED);
    if (result < 0)
        return result;
    result = restrict_ring(ring);
    if (result < 0)
        ::io_uring_queue_exit(&ring);
    return result < 0 ? result : 0;
}

} // namespace inox::devices::virtio
