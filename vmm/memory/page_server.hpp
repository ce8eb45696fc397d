// SPDX-License-Identifier: Apache-2.0
// Guest memory whose pages another process brings when they are touched first: userfaultfd(2), handed over as
// Firecracker does it. The server listens at a unix stream socket and gets one message: the descriptor of a
// userfaultfd (SCM_RIGHTS), and a JSON array that has, for each region of guest memory, base_host_virt_addr, size,
// offset in the memory file, page_size and page_size_kib (all in bytes, also the last, as there). It answers nothing,
// and keeps the connection for as long as it serves. Pages that the guest gave back reach it as REMOVE events; they
// are zero when they are touched again.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "vmm/memory/guest_memory.hpp"

namespace inox {

/// A thread that touches memory which the server owes waits for it, without a limit, also in the kernel.
class PageServer {
public:
    enum class AtEnd : std::uint8_t { release, abandon };
    /// Hands over memory of GuestMemory::awaiting(). `on_end` is called once, on a thread of this, when the server
    /// closes its end; it says what then becomes of those that wait. page_server; memory_unavailable where the kernel
    /// has no userfaultfd for this process.
    static Result<std::unique_ptr<PageServer>> hand_over(const std::string& socket, const GuestMemory& memory,
                                                         std::function<AtEnd()> on_end);
    /// The memory must not be touched any more.
    ~PageServer();
    PageServer(const PageServer&) = delete;
    PageServer& operator=(const PageServer&) = delete;

    // Any thread.
    [[nodiscard]] bool ended() const noexcept { return ended_.load(std::memory_order_acquire); }
    /// What a machine ends with whose server has ended.
    [[nodiscard]] Error end_error() const;
    /// Whoever waits for a page goes on, with zeros: while no guest runs and no device works.
    void release() noexcept;
    /// Whoever waits for a page goes on, and what it wanted fails: the kernel's work with EFAULT, so that zeros reach
    /// no disk; a thread of this process that touches the memory stands still for ever. For a process that ends.
    void abandon() noexcept;

private:
    PageServer(std::string path, UniqueFd socket, UniqueFd faults, EventFd woken, std::function<AtEnd()> on_end);
    Result<void> register_regions(const GuestMemory& memory);
    Result<void> send(const GuestMemory& memory);
    void watch();
    void look_at_socket();
    void drop_events() const noexcept;

    const std::string path_;
    UniqueFd socket_;
    UniqueFd faults_; ///< the userfaultfd, which the server has, too; not blocking
    EventFd woken_;   ///< finishing_ or released_
    std::function<AtEnd()> on_end_;
    std::vector<std::span<std::byte>> regions_{};
    std::atomic<bool> ended_{false};
    std::atomic<bool> released_{false};
    std::atomic<bool> finishing_{false};
    std::thread thread_{};
};

/// A userfaultfd that also stops accesses by the kernel, which KVM's are, with these features. memory_unavailable, with
/// what is missing.
Result<UniqueFd> open_userfaultfd(std::uint64_t features);

} // namespace inox
