// SPDX-License-Identifier: Apache-2.0
// Register numbers and bits: National Semiconductor PC16550D data sheet, table II.
#include "devices/serial.hpp"

#include <algorithm>
#include <utility>

#include "vmm/base/state.hpp"

namespace inox::devices {
namespace {

enum Register : unsigned {
    data,
    interrupt_enable,
    identification,
    line_control,
    modem_control,
    line_status,
    modem_status
};
constexpr unsigned fifo_control = identification; // when written

constexpr std::uint8_t ier_received = 0x01;
constexpr std::uint8_t ier_transmit = 0x02;
constexpr std::uint8_t ier_line = 0x04;
constexpr std::uint8_t ier_modem = 0x08;

constexpr std::uint8_t iir_none = 0x01;
constexpr std::uint8_t iir_modem = 0x00;
constexpr std::uint8_t iir_transmit = 0x02;
constexpr std::uint8_t iir_received = 0x04;
constexpr std::uint8_t iir_line = 0x06;
constexpr std::uint8_t iir_timeout = 0x0c;
constexpr std::uint8_t iir_fifo = 0xc0;

constexpr std::uint8_t fcr_enable = 0x01;
constexpr std::uint8_t fcr_clear_received = 0x02;
constexpr std::uint8_t fcr_kept = 0xc9; // enable, DMA mode, trigger level

constexpr std::uint8_t lcr_divisor = 0x80;

constexpr std::uint8_t mcr_dtr = 0x01;
constexpr std::uint8_t mcr_rts = 0x02;
constexpr std::uint8_t mcr_out1 = 0x04;
constexpr std::uint8_t mcr_out2 = 0x08;
constexpr std::uint8_t mcr_loop = 0x10;

constexpr std::uint8_t lsr_data = 0x01;
constexpr std::uint8_t lsr_overrun = 0x02;
constexpr std::uint8_t lsr_transmitter_empty = 0x60; // holding register and shift register

constexpr std::uint8_t msr_cts = 0x10;
constexpr std::uint8_t msr_dsr = 0x20;
constexpr std::uint8_t msr_ri = 0x40;
constexpr std::uint8_t msr_dcd = 0x80;
constexpr std::uint8_t msr_connected = msr_cts | msr_dsr | msr_dcd;
constexpr std::uint8_t msr_deltas = 0x0f;

std::uint8_t modem_lines(std::uint8_t mcr) {
    if (!(mcr & mcr_loop))
        return msr_connected;
    unsigned lines = 0;
    lines |= mcr & mcr_rts ? msr_cts : 0U;
    lines |= mcr & mcr_dtr ? msr_dsr : 0U;
    lines |= mcr & mcr_out1 ? msr_ri : 0U;
    lines |= mcr & mcr_out2 ? msr_dcd : 0U;
    return static_cast<std::uint8_t>(lines);
}

/// The delta bits that a change of the lines sets; the ring indicator counts only its trailing edge.
std::uint8_t modem_deltas(std::uint8_t before, std::uint8_t after) {
    const unsigned changed = (before ^ after) & 0xf0U & ~(after & msr_ri);
    return static_cast<std::uint8_t>(changed >> 4);
}

/// A guest that polls this often without interrupts waits for input; one that only probes polls a few times.
constexpr unsigned waiting_polls = 64;

} // namespace

Serial::Serial(std::unique_ptr<IrqLine> irq, Output output)
    : irq_{std::move(irq)}, output_{std::move(output)}, modem_status_{msr_connected} {}

std::size_t Serial::receive(std::span<const std::byte> bytes) noexcept {
    Effects effects;
    std::size_t taken = 0;
    {
        const std::lock_guard lock{mutex_};
        while (taken < bytes.size() && accepts_input() && held_count_ == 0 && fifo_count_ < capacity())
            push_received(std::to_integer<std::uint8_t>(bytes[taken++]));
        wants_room_ = taken < bytes.size();
        update_line(effects);
    }
    apply(effects);
    return taken;
}

void Serial::read(std::uint64_t offset, std::span<std::byte> data) noexcept {
    for (auto& byte : data) {
        Effects effects;
        {
            const std::lock_guard lock{mutex_};
            byte = std::byte{read_register(offset++ & 7, effects)};
            update_line(effects);
        }
        apply(effects);
    }
}

void Serial::write(std::uint64_t offset, std::span<const std::byte> data) noexcept {
    for (const auto byte : data) {
        Effects effects;
        {
            const std::lock_guard lock{mutex_};
            write_register(offset++ & 7, std::to_integer<std::uint8_t>(byte), effects);
            update_line(effects);
        }
        apply(effects);
    }
}

std::uint8_t Serial::read_register(unsigned reg, Effects& effects) {
    switch (reg) {
    case Register::data:
        return divisor_access() ? static_cast<std::uint8_t>(divisor_) : take_received(effects);
    case Register::interrupt_enable:
        return divisor_access() ? static_cast<std::uint8_t>(divisor_ >> 8) : interrupt_enable_;
    case Register::identification:
        return take_interrupt_id();
    case Register::line_control:
        return line_control_;
    case Register::modem_control:
        return modem_control_;
    case Register::line_status:
        return take_line_status();
    case Register::modem_status:
        return take_modem_status();
    default:
        return scratch_;
    }
}

void Serial::write_register(unsigned reg, std::uint8_t value, Effects& effects) {
    switch (reg) {
    case Register::data:
        if (divisor_access())
            divisor_ = static_cast<std::uint16_t>((divisor_ & 0xff00) | value);
        else
            transmit(value, effects);
        break;
    case Register::interrupt_enable:
        if (divisor_access())
            divisor_ = static_cast<std::uint16_t>((divisor_ & 0x00ff) | (value << 8));
        else
            set_interrupt_enable(value);
        break;
    case fifo_control:
        set_fifo_control(value, effects);
        break;
    case Register::line_control:
        line_control_ = value;
        break;
    case Register::modem_control:
        set_modem_control(value, effects);
        break;
    case Register::line_status: // meant for factory tests: ignored
    case Register::modem_status:
        break;
    default:
        scratch_ = value;
    }
}

/// Without wants_room_: input that waits is the host's, and the host's is new after a restore.
void Serial::state(State& state) {
    const std::lock_guard lock{mutex_};
    state.version(1);
    state.bytes("fifo", std::as_writable_bytes(std::span{fifo_}));
    state.number("fifo_head", fifo_head_, std::size_t{0}, fifo_size - 1);
    state.number("fifo_count", fifo_count_, std::size_t{0}, fifo_size);
    state.number("divisor", divisor_);
    state.number("interrupt_enable", interrupt_enable_, std::uint8_t{0}, std::uint8_t{0x0f});
    state.number("fifo_control", fifo_control_);
    state.number("line_control", line_control_);
    state.number("modem_control", modem_control_, std::uint8_t{0}, std::uint8_t{0x1f});
    state.number("modem_status", modem_status_);
    state.number("scratch", scratch_);
    state.flag("overrun", overrun_);
    state.flag("transmit_pending", transmit_pending_);
    state.flag("line_high", line_high_);
    state.flag("looked_since_edge", looked_since_edge_);
    state.flag("request_to_send_seen", request_to_send_seen_);
    state.flag("looped_back", looped_back_);
    state.bytes("held", std::as_writable_bytes(std::span{held_}));
    state.number("held_count", held_count_, std::size_t{0}, fifo_size);
    state.number("polls", polls_, 0U, waiting_polls);
    state.flag("opened", opened_);
    state.check((fifo_control_ & ~fcr_kept) == 0, "its FIFO has a control bit that there is not");
    state.check(looped_back_ || held_count_ + fifo_count_ <= fifo_size, "more input is held than there can be");
}

/// An edge that was on its way when the machine was saved is lost, and a driver that sends waits for it.
void Serial::resume() noexcept {
    Effects effects;
    {
        const std::lock_guard lock{mutex_};
        effects.interrupt = line_high_;
        offer_room(effects);
    }
    apply(effects);
}

void Serial::apply(const Effects& effects) noexcept {
    if (effects.sent)
        output_({&*effects.sent, 1});
    if (effects.interrupt)
        irq_->trigger();
    if (effects.input_room && input_room_)
        input_room_();
}

bool Serial::divisor_access() const { return line_control_ & lcr_divisor; }
bool Serial::fifo_enabled() const { return fifo_control_ & fcr_enable; }
bool Serial::loopback() const { return modem_control_ & mcr_loop; }
std::size_t Serial::capacity() const { return fifo_enabled() ? fifo_size : 1; }

bool Serial::accepts_input() const { return !loopback() && (!request_to_send_seen_ || (modem_control_ & mcr_rts)); }

bool Serial::enough_received() const {
    constexpr std::array<std::size_t, 4> levels{1, 4, 8, 14};
    return fifo_count_ >= (fifo_enabled() ? levels[fifo_control_ >> 6] : 1);
}

std::uint8_t Serial::interrupt_id() const {
    if ((interrupt_enable_ & ier_line) && overrun_)
        return iir_line;
    // There is no line delay, so bytes below the trigger level have always waited long enough for the time-out.
    if ((interrupt_enable_ & ier_received) && fifo_count_ > 0)
        return enough_received() ? iir_received : iir_timeout;
    if ((interrupt_enable_ & ier_transmit) && transmit_pending_)
        return iir_transmit;
    if ((interrupt_enable_ & ier_modem) && (modem_status_ & msr_deltas))
        return iir_modem;
    return iir_none;
}

std::uint8_t Serial::take_received(Effects& effects) {
    if (fifo_count_ == 0)
        return 0;
    const auto byte = fifo_[fifo_head_];
    fifo_head_ = (fifo_head_ + 1) % fifo_size;
    --fifo_count_;
    release_held();
    offer_room(effects);
    return byte;
}

std::uint8_t Serial::take_interrupt_id() {
    looked_since_edge_ = true;
    const auto id = interrupt_id();
    if (id == iir_transmit)
        transmit_pending_ = false;
    return fifo_enabled() ? id | iir_fifo : id;
}

std::uint8_t Serial::take_line_status() {
    looked_since_edge_ = true;
    polls_ = std::min(polls_ + 1, waiting_polls);
    release_held();
    unsigned status = lsr_transmitter_empty;
    status |= fifo_count_ > 0 ? lsr_data : 0U;
    status |= std::exchange(overrun_, false) ? lsr_overrun : 0U;
    return static_cast<std::uint8_t>(status);
}

std::uint8_t Serial::take_modem_status() {
    return std::exchange(modem_status_, static_cast<std::uint8_t>(modem_status_ & ~msr_deltas));
}

void Serial::push_received(std::uint8_t byte) {
    if (fifo_count_ < capacity()) {
        fifo_[(fifo_head_ + fifo_count_++) % fifo_size] = byte;
        return;
    }
    overrun_ = true;
    if (!fifo_enabled()) // the receiver buffer keeps the newest byte, a full FIFO the older ones
        fifo_[fifo_head_] = byte;
}

void Serial::transmit(std::uint8_t byte, Effects& effects) {
    if (loopback()) {
        push_received(byte);
        looped_back_ = true;
    } else {
        effects.sent = std::byte{byte};
    }
    transmit_pending_ = true;
    // The holding register was filled and emptied, so the pin fell and rose again. In a burst into the FIFO only the
    // last byte does that; a guest that has not read a status since the last edge is still in its burst.
    if ((interrupt_enable_ & ier_transmit) && line_high_ && (looked_since_edge_ || !fifo_enabled()))
        line_high_ = false;
}

void Serial::set_interrupt_enable(std::uint8_t value) {
    const auto before = std::exchange(interrupt_enable_, static_cast<std::uint8_t>(value & 0x0f));
    if ((interrupt_enable_ & ~before) & ier_transmit)
        transmit_pending_ = true; // the holding register is always empty
    release_held();
}

void Serial::set_fifo_control(std::uint8_t value, Effects& effects) {
    const bool toggled = (value ^ fifo_control_) & fcr_enable;
    if (toggled || (value & fcr_clear_received))
        clear_received();
    fifo_control_ = value & fcr_enable ? value & fcr_kept : 0;
    release_held();
    offer_room(effects);
}

void Serial::set_modem_control(std::uint8_t value, Effects& effects) {
    modem_control_ = value & 0x1f;
    if (!loopback() && (value & mcr_rts))
        request_to_send_seen_ = true;
    if (!loopback() && !(value & mcr_out2) && !(interrupt_enable_ & ier_received))
        opened_ = false; // closed: input that was not taken is kept for the next to open it
    const auto lines = modem_lines(modem_control_);
    const auto deltas = modem_deltas(modem_status_, lines);
    modem_status_ = static_cast<std::uint8_t>(lines | deltas | (modem_status_ & msr_deltas));
    release_held();
    offer_room(effects);
}

void Serial::clear_received() {
    if (!opened_ && !looped_back_) { // put before what is held; together they are at most one FIFO of input
        std::copy_backward(held_.begin(), held_.begin() + held_count_, held_.begin() + held_count_ + fifo_count_);
        for (std::size_t i = 0; i < fifo_count_; ++i)
            held_[i] = fifo_[(fifo_head_ + i) % fifo_size];
        held_count_ += fifo_count_;
        polls_ = 0;
    }
    fifo_head_ = 0;
    fifo_count_ = 0;
    overrun_ = false;
    looped_back_ = false;
}

void Serial::release_held() {
    const bool wanted = interrupt_enable_ & ier_received;
    constexpr unsigned open_lines = mcr_rts | mcr_out2;
    opened_ = opened_ || (wanted && !loopback() && (modem_control_ & open_lines) == open_lines);
    std::size_t released = 0;
    while (released < held_count_ && (wanted || opened_ || polls_ == waiting_polls) && accepts_input() &&
           fifo_count_ < capacity())
        push_received(held_[released++]);
    held_count_ -= released;
    std::copy_n(held_.begin() + released, held_count_, held_.begin());
}

void Serial::offer_room(Effects& effects) {
    if (fifo_count_ == 0 && held_count_ == 0 && accepts_input() && std::exchange(wants_room_, false))
        effects.input_room = true;
}

/// OUT2 does not gate the pin: guests made for other virtual machines leave it low, and none needs the gate.
void Serial::update_line(Effects& effects) {
    const bool high = interrupt_id() != iir_none;
    if (high && !line_high_) {
        effects.interrupt = true;
        looked_since_edge_ = false;
    }
    line_high_ = high;
}

} // namespace inox::devices
