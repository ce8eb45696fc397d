// SPDX-License-Identifier: Apache-2.0
// A 16550A: what Linux calls ttyS0. The line is infinitely fast: a byte written has been sent, a byte received waits in
// the FIFO until the guest takes it. Drivers empty the FIFO while they look for the chip and when they open and close
// the port; what is typed while it is not open, or not taken by then, is kept for the next to open it.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <span>

#include "vmm/bus/bus.hpp"
#include "vmm/bus/irq.hpp"

namespace inox::devices {

class Serial final : public BusDevice {
public:
    using Output = std::function<void(std::span<const std::byte>)>;

    /// `irq` is edge triggered. `output` is called on vCPU threads, without a lock held, once per byte the guest sends;
    /// it must not throw.
    Serial(std::unique_ptr<IrqLine> irq, Output output);

    /// Gives the guest input, from any thread. Returns how many bytes fit; when that is less than all, `on_input_room`
    /// is called once as soon as more will fit.
    std::size_t receive(std::span<const std::byte> bytes) noexcept;
    /// Called on a vCPU thread, without a lock held; must not throw. Set it before the guest runs.
    void on_input_room(std::function<void()> callback) { input_room_ = std::move(callback); }

    [[nodiscard]] std::string_view name() const override { return "serial"; }
    void read(std::uint64_t offset, std::span<std::byte> data) noexcept override;
    void write(std::uint64_t offset, std::span<const std::byte> data) noexcept override;
    void state(State& state) override;
    void resume() noexcept override;

private:
    static constexpr std::size_t fifo_size = 16;
    /// What to do once the lock is released.
    struct Effects {
        bool interrupt{};
        bool input_room{};
        std::optional<std::byte> sent{};
    };

    std::uint8_t read_register(unsigned reg, Effects& effects);
    void write_register(unsigned reg, std::uint8_t value, Effects& effects);
    void apply(const Effects& effects) noexcept;

    [[nodiscard]] bool divisor_access() const;
    [[nodiscard]] bool fifo_enabled() const;
    [[nodiscard]] bool loopback() const;
    [[nodiscard]] bool enough_received() const;
    [[nodiscard]] std::size_t capacity() const;
    [[nodiscard]] bool accepts_input() const;
    [[nodiscard]] std::uint8_t interrupt_id() const;
    std::uint8_t take_received(Effects& effects);
    std::uint8_t take_interrupt_id();
    std::uint8_t take_line_status();
    std::uint8_t take_modem_status();
    void push_received(std::uint8_t byte);
    void transmit(std::uint8_t byte, Effects& effects);
    void set_interrupt_enable(std::uint8_t value);
    void set_fifo_control(std::uint8_t value, Effects& effects);
    void set_modem_control(std::uint8_t value, Effects& effects);
    void clear_received();
    void release_held();
    void offer_room(Effects& effects);
    void update_line(Effects& effects);

    std::unique_ptr<IrqLine> irq_;
    Output output_;
    std::function<void()> input_room_{};

    std::mutex mutex_; // guards all below
    std::array<std::uint8_t, fifo_size> fifo_{};
    std::size_t fifo_head_{};
    std::size_t fifo_count_{};
    std::uint16_t divisor_{12}; // 9600 baud
    std::uint8_t interrupt_enable_{};
    std::uint8_t fifo_control_{};
    std::uint8_t line_control_{};
    std::uint8_t modem_control_{};
    std::uint8_t modem_status_{};
    std::uint8_t scratch_{};
    bool overrun_{};
    bool transmit_pending_{};     // the "transmitter empty" interrupt has not been acknowledged
    bool line_high_{};            // level of the interrupt pin
    bool looked_since_edge_{};    // the guest read a status register after the last edge
    bool wants_room_{};           // receive() had to leave bytes behind
    bool request_to_send_seen_{}; // the guest has raised RTS once: from then on, RTS low stops input
    bool looped_back_{};          // fifo_ has bytes that the guest sent itself
    // Input that the guest cleared unread while the port was not open; it goes back into fifo_ before any other
    // does. So it and the input in fifo_ are never more than fifo_size.
    std::array<std::uint8_t, fifo_size> held_{};
    std::size_t held_count_{};
    unsigned polls_{}; // of the line status since the FIFO was cleared
    // The receive interrupt was on, and RTS and OUT2 high, at one time since the interrupt was off and OUT2 low.
    bool opened_{};
};

} // namespace inox::devices
