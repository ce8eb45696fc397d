// SPDX-License-Identifier: Apache-2.0
// The keyboard controller with a keyboard, no mouse, and system control port B. It is there for reset, for ctrl-alt-del
// and so that no driver waits for it.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <span>

#include "devices/guest_events.hpp"
#include "vmm/bus/bus.hpp"
#include "vmm/bus/irq.hpp"
#include "vmm/memory/layout.hpp"

namespace inox::devices {

/// A small queue that drops what does not fit.
class ByteQueue {
public:
    void push(std::uint8_t byte) {
        if (count_ < bytes_.size())
            bytes_[(head_ + count_++) % bytes_.size()] = byte;
    }
    std::optional<std::uint8_t> pop() {
        if (count_ == 0)
            return std::nullopt;
        const auto byte = bytes_[head_];
        head_ = (head_ + 1) % bytes_.size();
        --count_;
        return byte;
    }
    [[nodiscard]] std::size_t room() const { return bytes_.size() - count_; }
    void clear() { count_ = 0; }
    void state(State& state);

private:
    std::array<std::uint8_t, 32> bytes_{};
    std::size_t head_{};
    std::size_t count_{};
};

class I8042 final : public BusDevice {
public:
    /// Where to put it on the port bus: data, system control port B, two unused ports, command and status.
    static constexpr auto ports =
        *Range<IoPort>::closed(layout::port_i8042_data.start(), layout::port_i8042_status.last());

    /// `irq` is edge triggered.
    I8042(std::unique_ptr<IrqLine> irq, GuestEvents& events);

    /// Presses and releases the keys. From any thread. False when the guest has no keyboard driver listening.
    bool send_ctrl_alt_del() noexcept;

    [[nodiscard]] std::string_view name() const override { return "i8042"; }
    void read(std::uint64_t offset, std::span<std::byte> data) noexcept override;
    void write(std::uint64_t offset, std::span<const std::byte> data) noexcept override;
    void state(State& state) override;
    void resume() noexcept override;

private:
    struct Effects {
        bool interrupt{};
        bool reset{};
    };

    std::uint8_t read_port(std::uint64_t offset, Effects& effects);
    void write_port(std::uint64_t offset, std::uint8_t value, Effects& effects);
    void apply(const Effects& effects) noexcept;

    std::uint8_t read_control_b();
    [[nodiscard]] std::uint8_t status() const;
    void command(std::uint8_t value, Effects& effects);
    void simple_command(std::uint8_t value);
    void command_parameter(std::uint8_t command, std::uint8_t value, Effects& effects);
    void keyboard_command(std::uint8_t value);
    void keyboard_parameter(std::uint8_t command, std::uint8_t value);
    [[nodiscard]] bool translates() const;
    void refill(Effects& effects);
    std::optional<std::uint8_t> take_from_keyboard();

    std::unique_ptr<IrqLine> irq_;
    GuestEvents& events_;

    std::mutex mutex_; // guards all below
    std::array<std::uint8_t, 32> ram_{};
    ByteQueue replies_;                    // from the controller
    ByteQueue keyboard_;                   // from the keyboard, before translation
    std::optional<std::uint8_t> output_{}; // output buffer, waiting to be read
    std::uint8_t last_output_{};           // what an empty output buffer reads as
    std::uint8_t awaiting_{};              // controller command whose parameter comes next, or 0
    std::uint8_t keyboard_awaiting_{};     // the same for the keyboard
    std::uint8_t last_keyboard_byte_{};    // for a resend
    std::uint8_t scan_code_set_{2};
    std::uint8_t control_b_{};
    bool last_write_was_command_{};
    bool scanning_{};
};

} // namespace inox::devices
