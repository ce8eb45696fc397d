// SPDX-License-Identifier: Apache-2.0
// virtio-console (virtio 1.2, 5.3) with one port: what Linux calls hvc0.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "devices/virtio/device.hpp"
#include "devices/virtio/later.hpp"
#include "devices/virtio/serve.hpp"
#include "vmm/base/event_loop.hpp"

namespace inox::devices::virtio {

/// In characters; 0 when there is no terminal.
struct TerminalSize {
    std::uint16_t columns{};
    std::uint16_t rows{};
};

struct ConsoleOptions {
    std::string id{"console0"}; ///< for people
    TerminalSize size{};
};

/// Drop the last reference on the loop's thread, or when the loop does not run.
class Console final : public Device, public std::enable_shared_from_this<Console> {
public:
    /// Takes what it can of the guest's output, and returns how much; when that is less than all, the rest comes after
    /// on_output_room(). On the loop's thread, with the device's lock held: it must not wait, nor call the device.
    using Output = std::function<std::size_t(std::span<const std::byte>)>;

    /// `loop` must outlive the device.
    static Result<std::shared_ptr<Console>> create(const ConsoleOptions& options, EventLoop& loop, Output output);

    [[nodiscard]] Type type() const override { return Type::console; }
    [[nodiscard]] std::uint64_t features() const override;
    [[nodiscard]] std::span<const std::uint16_t> queue_sizes() const override { return queue_sizes_; }
    void read_config(std::uint64_t offset, std::span<std::byte> data) noexcept override;

    // On the loop's thread.

    /// Gives the guest input. Returns how many bytes fit; when that is less than all, `on_input_room` is called once
    /// as soon as more may fit.
    std::size_t receive(std::span<const std::byte> bytes) noexcept;
    /// Called on the loop's thread, without a lock held. Set it before the guest runs.
    void on_input_room(std::function<void()> callback) { input_room_ = std::move(callback); }
    /// Output takes more again.
    void on_output_room() noexcept { kick(transmit_queue); }
    /// The terminal has a new size: the guest is told.
    void resize(TerminalSize size) noexcept;

private:
    static constexpr unsigned receive_queue = 0;
    static constexpr unsigned transmit_queue = 1;
    static constexpr std::array<std::uint16_t, 2> queue_sizes_{64, 64};

    Console(const ConsoleOptions& options, EventLoop& loop, Output output);
    void on_activate() noexcept override;
    void on_kick(unsigned queue) noexcept override;
    void on_reset() noexcept override {
        taken_ = 0;
        announced_ = false;
    }
    void on_state(State& state) override;
    void on_resume() noexcept override;
    void announce_size() noexcept;
    void transmit() noexcept;
    void transmit_later() noexcept;
    [[nodiscard]] bool write(Chain& chain, std::uint64_t& budget) noexcept;
    void offer_room() noexcept;

    EventLoop& loop_;
    Output output_;
    std::function<void()> input_room_{};
    std::atomic<TerminalSize> size_;
    std::atomic<bool> wants_room_{false};
    Registration announcement_{}; // the loop's thread only

    // With the lock.
    bool announced_{false};  ///< the driver was, or will be, told the first size
    std::uint64_t taken_{0}; ///< bytes of the next chain that output has already
    Later later_{};
    Chain chain_{};
};

} // namespace inox::devices::virtio
