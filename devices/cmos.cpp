// SPDX-License-Identifier: Apache-2.0
#include "devices/cmos.hpp"

#include <algorithm>

#include "vmm/base/bytes.hpp"
#include "vmm/base/state.hpp"

namespace inox::devices {
namespace {

namespace reg {
enum : std::uint8_t {
    seconds = 0x00,
    minutes = 0x02,
    hours = 0x04,
    week_day = 0x06,
    day = 0x07,
    month = 0x08,
    year = 0x09,
    a = 0x0a,
    b = 0x0b,
    c = 0x0c,
    d = 0x0d,
    base_memory = 0x15,       // KiB, 16 bits
    extended_memory = 0x17,   // KiB above 1 MiB, 16 bits
    extended_memory_2 = 0x30, // the same again, as counted by the firmware
    century = 0x32,
    memory_above_16m = 0x34, // 64 KiB units, 16 bits
    memory_above_4g = 0x5b,  // 64 KiB units, 24 bits
};
} // namespace reg

constexpr std::uint8_t a_update_in_progress = 0x80;
constexpr std::uint8_t a_reset_value = 0x26; // 32.768 kHz crystal, 1024 Hz
constexpr std::uint8_t b_binary = 0x04;
constexpr std::uint8_t b_24_hours = 0x02;
constexpr std::uint8_t d_valid = 0x80;
/// UIP is set this long before an update, so a guest that sees it clear has time to read all registers.
constexpr long update_warning_ns = 244'000;

constexpr std::uint64_t units(std::uint64_t bytes, std::uint64_t from, std::uint64_t unit, std::uint64_t most) {
    return bytes > from ? std::min((bytes - from) / unit, most) : 0;
}

} // namespace

timespec Cmos::host_clock() {
    timespec now{};
    ::clock_gettime(CLOCK_REALTIME, &now);
    return now;
}

Cmos::Cmos(std::uint64_t ram_below_4g, std::uint64_t ram_above_4g, Clock clock) : clock_{clock} {
    ram_[reg::a] = a_reset_value;
    ram_[reg::b] = b_24_hours;
    const auto store = [this](std::uint8_t at, unsigned bytes, std::uint64_t value) {
        for (unsigned i = 0; i < bytes; ++i)
            ram_[at + i] = static_cast<std::uint8_t>(value >> (8 * i));
    };
    const auto extended = units(ram_below_4g, MiB, KiB, 0xffff);
    store(reg::base_memory, 2, units(ram_below_4g, 0, KiB, 640));
    store(reg::extended_memory, 2, extended);
    store(reg::extended_memory_2, 2, extended);
    store(reg::memory_above_16m, 2, units(ram_below_4g, 16 * MiB, 64 * KiB, 0xffff));
    store(reg::memory_above_4g, 3, units(ram_above_4g, 0, 64 * KiB, 0xffffff));
}

void Cmos::read(std::uint64_t offset, std::span<std::byte> data) noexcept {
    const std::lock_guard lock{mutex_};
    for (auto& byte : data)
        byte = std::byte{offset++ == 1 ? read_register(index_) : std::uint8_t{0xff}};
}

void Cmos::write(std::uint64_t offset, std::span<const std::byte> data) noexcept {
    const std::lock_guard lock{mutex_};
    for (const auto byte : data) {
        const auto value = std::to_integer<std::uint8_t>(byte);
        if (offset++ == 0)
            index_ = value & 0x7f; // bit 7 masks the NMI, which does not exist here
        else if (index_ != reg::c && index_ != reg::d)
            ram_[index_] = value;
    }
}

/// The clock is the host's.
void Cmos::state(State& state) {
    const std::lock_guard lock{mutex_};
    state.version(1);
    state.bytes("ram", std::as_writable_bytes(std::span{ram_}));
    state.number("index", index_, std::uint8_t{0}, std::uint8_t{0x7f});
}

std::uint8_t Cmos::read_register(std::uint8_t index) const {
    switch (index) {
    case reg::seconds:
    case reg::minutes:
    case reg::hours:
    case reg::week_day:
    case reg::day:
    case reg::month:
    case reg::year:
    case reg::century:
        return time_register(index);
    case reg::a: {
        const bool updating = clock_().tv_nsec >= 1'000'000'000 - update_warning_ns;
        return static_cast<std::uint8_t>((ram_[index] & ~a_update_in_progress) | (updating ? a_update_in_progress : 0));
    }
    case reg::c:
        return 0;
    case reg::d:
        return d_valid;
    default:
        return ram_[index];
    }
}

std::uint8_t Cmos::time_register(std::uint8_t index) const {
    const timespec now = clock_();
    tm utc{};
    ::gmtime_r(&now.tv_sec, &utc);
    switch (index) {
    case reg::seconds:
        return encode(std::min(utc.tm_sec, 59));
    case reg::minutes:
        return encode(utc.tm_min);
    case reg::hours:
        return encode_hour(utc.tm_hour);
    case reg::week_day:
        return encode(utc.tm_wday + 1);
    case reg::day:
        return encode(utc.tm_mday);
    case reg::month:
        return encode(utc.tm_mon + 1);
    case reg::year:
        return encode(utc.tm_year % 100);
    default:
        return encode((utc.tm_year + 1900) / 100);
    }
}

std::uint8_t Cmos::encode(int value) const {
    return static_cast<std::uint8_t>(ram_[reg::b] & b_binary ? value : value / 10 * 16 + value % 10);
}

std::uint8_t Cmos::encode_hour(int hour) const {
    if (ram_[reg::b] & b_24_hours)
        return encode(hour);
    const auto of_twelve = encode((hour + 11) % 12 + 1);
    return static_cast<std::uint8_t>(of_twelve | (hour >= 12 ? 0x80 : 0));
}

} // namespace inox::devices
