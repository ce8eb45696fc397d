// SPDX-License-Identifier: Apache-2.0
#include "devices/i8042.hpp"

#include <utility>

#include "vmm/base/state.hpp"

namespace inox::devices {
namespace {

enum Port : std::uint64_t { data_port = 0, control_b_port = 1, command_port = 4 };

constexpr std::uint8_t status_output_full = 0x01;
constexpr std::uint8_t status_system = 0x04;
constexpr std::uint8_t status_command = 0x08;
constexpr std::uint8_t status_unlocked = 0x10;

// The command byte, RAM location 0.
constexpr std::uint8_t ctr_interrupt = 0x01;
constexpr std::uint8_t ctr_system = 0x04;
constexpr std::uint8_t ctr_disable_keyboard = 0x10;
constexpr std::uint8_t ctr_disable_aux = 0x20;
constexpr std::uint8_t ctr_translate = 0x40;

namespace cmd {
enum : std::uint8_t {
    read_ram = 0x20,  // .. 0x3f
    write_ram = 0x60, // .. 0x7f
    disable_aux = 0xa7,
    enable_aux = 0xa8,
    test_aux = 0xa9,
    self_test = 0xaa,
    test_keyboard = 0xab,
    disable_keyboard = 0xad,
    enable_keyboard = 0xae,
    read_input_port = 0xc0,
    read_output_port = 0xd0,
    write_output_port = 0xd1,
    write_keyboard_output = 0xd2,
    write_aux_output = 0xd3,
    write_aux = 0xd4,
    pulse = 0xf0, // .. 0xff
};
} // namespace cmd

namespace key {
enum : std::uint8_t {
    set_leds = 0xed,
    echo = 0xee,
    scan_code_set = 0xf0,
    identify = 0xf2,
    set_rate = 0xf3,
    enable = 0xf4,
    disable = 0xf5,
    defaults = 0xf6,
    resend = 0xfe,
    reset = 0xff,
    ack = 0xfa,
    self_test_passed = 0xaa,
};
} // namespace key

constexpr std::uint8_t output_port_no_reset = 0x01;
constexpr std::uint8_t output_port_a20 = 0x02;
constexpr std::uint8_t aux_missing = 0x02; // interface test: clock line stuck high
constexpr std::uint8_t break_prefix = 0xf0;

/// Commands of the controller that take a parameter; 0: none.
constexpr bool may_await(std::uint8_t command) {
    return command == 0 || (command >= cmd::write_ram && command < cmd::write_ram + 0x20) ||
           (command >= cmd::write_output_port && command <= cmd::write_aux);
}
constexpr bool keyboard_may_await(std::uint8_t command) {
    return command == 0 || command == key::set_leds || command == key::scan_code_set || command == key::set_rate;
}

constexpr bool known_command(std::uint8_t value) { return value >= key::set_leds && value != 0xef && value != 0xf1; }

/// Scan code set 2 to set 1, for the few bytes this keyboard sends; the others are the same in both.
constexpr std::uint8_t translate(std::uint8_t byte) {
    switch (byte) {
    case 0x02: // scan code set 2, as the answer to a query
        return 0x41;
    case 0x11: // alt
        return 0x38;
    case 0x14: // control
        return 0x1d;
    case 0x71: // delete, after 0xe0
        return 0x53;
    case 0x83: // second byte of the keyboard's identity
        return 0x41;
    default:
        return byte;
    }
}

} // namespace

I8042::I8042(std::unique_ptr<IrqLine> irq, GuestEvents& events) : irq_{std::move(irq)}, events_{events} {
    // As firmware leaves it.
    ram_[0] = ctr_translate | ctr_disable_aux | ctr_system | ctr_interrupt;
}

bool I8042::send_ctrl_alt_del() noexcept {
    constexpr std::array<std::uint8_t, 11> codes{0x14, 0x11, 0xe0, 0x71, 0xe0, 0xf0, 0x71, 0xf0, 0x11, 0xf0, 0x14};
    Effects effects;
    {
        const std::lock_guard lock{mutex_};
        if (!scanning_ || keyboard_.room() < codes.size())
            return false;
        for (const auto code : codes)
            keyboard_.push(code);
        refill(effects);
    }
    apply(effects);
    return true;
}

void I8042::read(std::uint64_t offset, std::span<std::byte> data) noexcept {
    Effects effects;
    {
        const std::lock_guard lock{mutex_};
        for (auto& byte : data)
            byte = std::byte{read_port(offset++, effects)};
    }
    apply(effects);
}

void I8042::write(std::uint64_t offset, std::span<const std::byte> data) noexcept {
    Effects effects;
    {
        const std::lock_guard lock{mutex_};
        for (const auto byte : data)
            write_port(offset++, std::to_integer<std::uint8_t>(byte), effects);
    }
    apply(effects);
}

std::uint8_t I8042::read_port(std::uint64_t offset, Effects& effects) {
    switch (offset) {
    case data_port:
        if (output_) {
            last_output_ = *std::exchange(output_, std::nullopt);
            refill(effects);
        }
        return last_output_;
    case control_b_port:
        return read_control_b();
    case command_port:
        return status();
    default:
        return 0xff;
    }
}

void I8042::write_port(std::uint64_t offset, std::uint8_t value, Effects& effects) {
    switch (offset) {
    case data_port:
        last_write_was_command_ = false;
        if (const auto command = std::exchange(awaiting_, 0))
            command_parameter(command, value, effects);
        else
            keyboard_command(value);
        break;
    case control_b_port:
        control_b_ = value & 0x0f;
        break;
    case command_port:
        last_write_was_command_ = true;
        command(value, effects);
        break;
    default:
        break;
    }
    refill(effects);
}

void ByteQueue::state(State& state) {
    state.bytes("bytes", std::as_writable_bytes(std::span{bytes_}));
    state.number("head", head_, std::size_t{0}, bytes_.size() - 1);
    state.number("count", count_, std::size_t{0}, bytes_.size());
}

void I8042::state(State& state) {
    const std::lock_guard lock{mutex_};
    state.version(1);
    state.bytes("ram", std::as_writable_bytes(std::span{ram_}));
    state.part("replies", [this](State& part) { replies_.state(part); });
    state.part("keyboard", [this](State& part) { keyboard_.state(part); });
    bool full = output_.has_value();
    std::uint8_t output = output_.value_or(0);
    state.flag("output_full", full);
    state.number("output", output);
    state.number("last_output", last_output_);
    state.number("awaiting", awaiting_);
    state.number("keyboard_awaiting", keyboard_awaiting_);
    state.number("last_keyboard_byte", last_keyboard_byte_);
    state.number("scan_code_set", scan_code_set_, std::uint8_t{1}, std::uint8_t{3});
    state.number("control_b", control_b_);
    state.flag("last_write_was_command", last_write_was_command_);
    state.flag("scanning", scanning_);
    state.check(may_await(awaiting_) && keyboard_may_await(keyboard_awaiting_), "it waits for a parameter of nothing");
    output_ = full ? std::optional{output} : std::nullopt;
}

void I8042::resume() noexcept {
    Effects effects;
    {
        const std::lock_guard lock{mutex_};
        effects.interrupt = output_ && (ram_[0] & ctr_interrupt);
    }
    apply(effects);
}

void I8042::apply(const Effects& effects) noexcept {
    if (effects.interrupt)
        irq_->trigger();
    if (effects.reset)
        events_.reset();
}

/// Refresh request and timer 2 output change at each look, so a loop that waits for either edge ends.
std::uint8_t I8042::read_control_b() {
    control_b_ ^= 0x30;
    return control_b_;
}

std::uint8_t I8042::status() const {
    unsigned status = status_system | status_unlocked;
    status |= output_ ? status_output_full : 0U;
    status |= last_write_was_command_ ? status_command : 0U;
    return static_cast<std::uint8_t>(status);
}

bool I8042::translates() const { return ram_[0] & ctr_translate; }

void I8042::command(std::uint8_t value, Effects& effects) {
    awaiting_ = 0;
    if (value >= cmd::read_ram && value < cmd::read_ram + ram_.size())
        replies_.push(ram_[value - cmd::read_ram]);
    else if (value >= cmd::write_ram && value < cmd::write_ram + ram_.size())
        awaiting_ = value;
    else if (value >= cmd::pulse)
        effects.reset |= !(value & output_port_no_reset);
    else
        simple_command(value);
}

void I8042::simple_command(std::uint8_t value) {
    switch (value) {
    case cmd::disable_aux:
        ram_[0] |= ctr_disable_aux;
        break;
    case cmd::enable_aux:
        ram_[0] &= static_cast<std::uint8_t>(~ctr_disable_aux);
        break;
    case cmd::test_aux:
        replies_.push(aux_missing);
        break;
    case cmd::self_test:
        replies_.push(0x55);
        break;
    case cmd::test_keyboard:
        replies_.push(0);
        break;
    case cmd::disable_keyboard:
        ram_[0] |= ctr_disable_keyboard;
        break;
    case cmd::enable_keyboard:
        ram_[0] &= static_cast<std::uint8_t>(~ctr_disable_keyboard);
        break;
    case cmd::read_input_port:
        replies_.push(0x80); // keyboard not locked
        break;
    case cmd::read_output_port:
        replies_.push(output_port_no_reset | output_port_a20);
        break;
    case cmd::write_output_port:
    case cmd::write_keyboard_output:
    case cmd::write_aux_output:
    case cmd::write_aux:
        awaiting_ = value;
        break;
    default: // A20 and vendor commands without an answer
        break;
    }
}

void I8042::command_parameter(std::uint8_t command, std::uint8_t value, Effects& effects) {
    switch (command) {
    case cmd::write_output_port:
        effects.reset |= !(value & output_port_no_reset);
        break;
    case cmd::write_keyboard_output:
        replies_.push(value);
        break;
    case cmd::write_aux_output: // answered, but not marked as from an aux device: a prober sees at once there is none
        replies_.push(value);
        break;
    case cmd::write_aux:
        replies_.push(key::resend);
        break;
    default:
        ram_[command - cmd::write_ram] = value;
    }
}

void I8042::keyboard_command(std::uint8_t value) {
    // Writing to the keyboard turns its clock on again.
    ram_[0] &= static_cast<std::uint8_t>(~ctr_disable_keyboard);
    if (const auto command = std::exchange(keyboard_awaiting_, 0); command && value < key::set_leds) {
        keyboard_parameter(command, value);
        return;
    }
    if (value == key::resend) {
        keyboard_.push(last_keyboard_byte_);
        return;
    }
    if (value == key::echo) {
        keyboard_.push(key::echo);
        return;
    }
    keyboard_.clear();
    keyboard_.push(known_command(value) ? key::ack : key::resend);
    switch (value) {
    case key::set_leds:
    case key::scan_code_set:
    case key::set_rate:
        keyboard_awaiting_ = value;
        break;
    case key::identify:
        keyboard_.push(0xab);
        keyboard_.push(0x83);
        break;
    case key::enable:
        scanning_ = true;
        break;
    case key::disable:
        scanning_ = false;
        break;
    case key::reset:
        scanning_ = true;
        scan_code_set_ = 2;
        keyboard_.push(key::self_test_passed);
        break;
    default:
        break;
    }
}

void I8042::keyboard_parameter(std::uint8_t command, std::uint8_t value) {
    keyboard_.push(key::ack);
    if (command != key::scan_code_set)
        return;
    if (value == 0)
        keyboard_.push(scan_code_set_);
    else if (value <= 3)
        scan_code_set_ = value;
}

void I8042::refill(Effects& effects) {
    if (output_)
        return;
    output_ = replies_.pop();
    if (!output_ && !(ram_[0] & ctr_disable_keyboard))
        output_ = take_from_keyboard();
    if (output_ && (ram_[0] & ctr_interrupt))
        effects.interrupt = true;
}

/// Translation turns a break prefix and a code into one byte with bit 7 set.
std::optional<std::uint8_t> I8042::take_from_keyboard() {
    auto byte = keyboard_.pop();
    if (!byte)
        return std::nullopt;
    last_keyboard_byte_ = *byte;
    if (!translates())
        return byte;
    if (*byte != break_prefix)
        return translate(*byte);
    byte = keyboard_.pop();
    if (!byte)
        return std::nullopt;
    return static_cast<std::uint8_t>(translate(*byte) | 0x80);
}

} // namespace inox::devices
