// SPDX-License-Identifier: Apache-2.0
// Copies by a real accelerator: a user work queue of the host's idxd driver. The host's queue works in this process's
// address space, so what it is given are host addresses, already translated and checked.
//
// No machine with such a queue was at hand: the code follows the driver's interface and the specification, and has been
// run against neither.
#pragma once

#include <memory>
#include <string>

#include "devices/dsa/operations.hpp"
#include "devices/dsa/registers.hpp"
#include "vmm/base/os.hpp"

namespace inox::devices::dsa {

/// A work queue of the host, such as /dev/dsa/wq0.0.
class HostQueue {
public:
    /// unsupported: the CPU lacks the instruction that this queue's mode needs; not_found: no such device file;
    /// host_error.
    static Result<std::shared_ptr<HostQueue>> open(const std::string& path);

    /// Waits for the completion. False when the device did not copy all of it: how much is in `done`.
    bool copy(std::byte* to, const std::byte* from, std::size_t size, std::size_t& done) noexcept;

private:
    HostQueue(UniqueFd fd, Mapping portal, bool dedicated)
        : fd_{std::move(fd)}, portal_{std::move(portal)}, dedicated_{dedicated} {}
    bool submit(const Descriptor& descriptor) noexcept;

    UniqueFd fd_;
    Mapping portal_;
    bool dedicated_;
};

/// Sends copies that are worth it to the host's queue; what that does not finish, the CPU does.
class ForwardingCopier final : public Copier {
public:
    static constexpr std::size_t worth_it = 16 * 1024;
    explicit ForwardingCopier(std::shared_ptr<HostQueue> queue) : queue_{std::move(queue)} {}
    void copy(std::byte* to, const std::byte* from, std::size_t size) noexcept override;

private:
    std::shared_ptr<HostQueue> queue_;
    CpuCopier cpu_{};
};

} // namespace inox::devices::dsa
