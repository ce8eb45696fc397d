// SPDX-License-Identifier: Apache-2.0
// virtio-fs (virtio 1.2, 5.11): a folder of the host in the guest, served by a vhost-user daemon such as virtiofsd.
//
//   inox run ... --share tag=work,socket=/run/work.sock        guest: mount -t virtiofs work /mnt
#pragma once

#include <array>
#include <memory>
#include <string>

#include "devices/virtio/device.hpp"
#include "devices/virtio/fs_options.hpp"
#include "devices/virtio/vhost_user_worker.hpp"
#include "vmm/base/event_loop.hpp"

namespace inox::devices::virtio {

/// The daemon works on the queues; kicks and interrupts pass through the loop. Not behind an IOMMU. A daemon that dies
/// or misbehaves breaks the device (NEEDS_RESET); the next activation uses the one that listens then.
class Fs final : public Device {
public:
    /// Connects to the daemon, in at most VhostUserWorker::first_wait. `memory` and `loop` must outlive the device.
    static Result<std::shared_ptr<Fs>> create(const FsOptions& options, EventLoop& loop, const GuestMemory& memory);

    [[nodiscard]] Type type() const override { return Type::fs; }
    [[nodiscard]] bool translatable() const override { return false; }
    /// None: the one there is (VIRTIO_FS_F_NOTIFICATION) needs a queue that this device has not.
    [[nodiscard]] std::uint64_t features() const override { return 0; }
    [[nodiscard]] bool resetting() const noexcept override { return daemon_->stopping(); }
    [[nodiscard]] std::span<const std::uint16_t> queue_sizes() const override { return sizes; }
    void read_config(std::uint64_t offset, std::span<std::byte> data) noexcept override;
    [[nodiscard]] std::optional<std::string> unsaveable() const override {
        return name() + " is served by a daemon, which keeps its state to itself";
    }

protected:
    void on_activate() noexcept override;
    void on_kick(unsigned queue) noexcept override;
    void on_reset() noexcept override;
    void on_reset_queue(unsigned queue) noexcept override;
    void on_state(State& /*state*/) override {}

private:
    static constexpr std::array<std::uint16_t, 2> sizes{128, 1024}; ///< high priority, requests
    struct Bells {
        EventFd kick;
        EventFd call;
        Registration watch{};
        bool started{false};
    };

    explicit Fs(const FsOptions& options);
    [[nodiscard]] VhostUser::Ring ring(unsigned index);
    void on_failed(std::uint64_t session, const Error& error) noexcept;

    const std::array<std::byte, 40> config_;
    std::vector<Bells> bells_{};
    std::uint64_t session_{0};                  ///< counts activations
    std::unique_ptr<VhostUserWorker> daemon_{}; // last: its thread calls on_failed()
};

} // namespace inox::devices::virtio
