// SPDX-License-Identifier: Apache-2.0
// virtio-fs (virtio 1.2, 5.11) with a server of inox's own: a process that gets each request as a message.
//
//   inox run ... --share tag=work,path=/the/folder             guest: mount -t virtiofs work /mnt
//
//   queue -> copy -> socket -> server (vmm/share) -> socket -> copy -> queue
//
// The server has no part of guest memory, so the guest's memory stays as it is, and an IOMMU can stand in between.
#pragma once

#include <array>
#include <functional>
#include <memory>
#include <unordered_map>

#include "devices/virtio/device.hpp"
#include "devices/virtio/fs_options.hpp"
#include "devices/virtio/later.hpp"
#include "devices/virtio/serve.hpp"
#include "vmm/base/event_loop.hpp"
#include "vmm/share/message.hpp"
#include "vmm/share/process.hpp"

namespace inox::devices::virtio {

/// A server that ends costs the requests that it had (ENOTCONN); those behind them fail as well, until the guest mounts
/// the folder again, which starts another server, at most one a second. Drop the last reference on the loop's thread,
/// or when the loop does not run.
class FsFolder final : public Device, public std::enable_shared_from_this<FsFolder> {
public:
    using Start = std::function<Result<share::StartedServer>()>;
    /// Requests that are answered later, and pieces of guest memory their answers go to: what is more has to wait.
    static constexpr std::size_t most_requests = 4096;
    static constexpr std::size_t most_ranges = 64 * 1024;
    static constexpr std::chrono::seconds between_starts{1};

    /// Opens the folder and starts its server. `loop` must outlive the device.
    static Result<std::shared_ptr<FsFolder>> create(const FsOptions& options, EventLoop& loop);
    /// With another way to start it.
    static Result<std::shared_ptr<FsFolder>> create(const FsOptions& options, EventLoop& loop, Start start);

    [[nodiscard]] Type type() const override { return Type::fs; }
    [[nodiscard]] std::uint64_t features() const override { return 0; }
    [[nodiscard]] std::span<const std::uint16_t> queue_sizes() const override { return sizes; }
    void read_config(std::uint64_t offset, std::span<std::byte> data) noexcept override;
    [[nodiscard]] std::optional<std::string> unsaveable() const override {
        return name() + " is served by a process, whose open files are not saved yet";
    }

private:
    static constexpr std::array<std::uint16_t, 2> sizes{128, 1024}; ///< high priority, requests

    /// Waits for its reply. Without a head: its queue was reset and the reply is dropped.
    struct Request {
        unsigned queue{};
        ChainHead head{};
        std::uint64_t room{}; ///< bytes the guest has for the reply
        std::vector<Range<Iova>> ranges{};
    };

    FsFolder(const FsOptions& options, EventLoop& loop, Start start);
    void on_kick(unsigned queue) noexcept override;
    void on_reset() noexcept override;
    void on_reset_queue(unsigned queue) noexcept override;
    void on_state(State& /*state*/) override {}

    // From the guest to the server
    [[nodiscard]] bool serve_one(unsigned index, Queue& queue, Chain& chain) noexcept;
    [[nodiscard]] bool has_server_for(const fuse_in_header& header) noexcept;
    [[nodiscard]] bool send(const Chain& chain, const fuse_in_header& header, std::uint64_t size) noexcept;
    void keep(unsigned index, Chain& chain, const fuse_in_header& header, std::uint64_t sent) noexcept;
    void refuse(Queue& queue, Chain& chain, std::uint64_t unique, int error) noexcept;
    void flush() noexcept;
    void on_writable() noexcept;
    void watch_writable() noexcept;

    // From the server to the guest
    void on_readable() noexcept;
    [[nodiscard]] bool take_replies(Turn& turn) noexcept;
    void complete(std::span<const std::byte> reply, Turn& turn) noexcept;
    void give(Request& request, std::span<const std::byte> reply, Turn& turn) noexcept;

    Result<void> start_server();
    void lose_server() noexcept;

    EventLoop& loop_;
    const Start start_;
    const std::array<std::byte, 40> config_;
    Chain chain_{};
    Later later_{};

    // The loop's thread only.
    share::StartedServer server_{};
    std::chrono::steady_clock::time_point started_{};
    Registration readable_{};
    Registration writable_{};
    Mapping in_{}; ///< of replies; the front is the start of one. Pages that no reply reached cost nothing.
    std::size_t filled_{0};

    // With the device's lock.
    std::unordered_map<std::uint64_t, Request> waiting_{};
    std::size_t ranges_{0};         ///< of all that wait
    std::array<bool, 2> blocked_{}; ///< queues that have requests for which there was no room
    std::vector<std::byte> out_{};  ///< the rest of a message that the socket took a part of
    std::size_t sent_{0};           ///< of out_
    bool used_{false};              ///< the server has seen a request since it knew nothing
    bool must_forget_{false};       ///< it is to be told to forget all, before the next request
    unsigned forgetting_{0};        ///< it was told; replies in front of its answer are of requests nobody waits for
    bool alive_{false};
    std::array<bool, 2> signalled_{};
};

} // namespace inox::devices::virtio
