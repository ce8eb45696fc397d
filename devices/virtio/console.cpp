// SPDX-License-Identifier: Apache-2.0
#include "devices/virtio/console.hpp"

#include <algorithm>
#include <cstring>
#include <linux/virtio_console.h>

#include "vmm/base/state.hpp"

namespace inox::devices::virtio {
namespace {

// Linux reads the first size only when it is notified of a change, and must have added its port by then: it offers
// receive buffers shortly before.
constexpr std::chrono::milliseconds announce_delay{200};

constexpr unsigned batch = 64;
constexpr std::uint64_t bytes_at_once = 64 * 1024; // of output, before the loop does other work

struct ConsoleConfig {
    Le16 columns;
    Le16 rows;
    Le32 ports;
    Le32 emergency_write;
};
static_assert(sizeof(ConsoleConfig) == sizeof(virtio_console_config));

} // namespace

Result<std::shared_ptr<Console>> Console::create(const ConsoleOptions& options, EventLoop& loop, Output output) {
    return std::shared_ptr<Console>{new Console{options, loop, std::move(output)}};
}

Console::Console(const ConsoleOptions& options, EventLoop& loop, Output output)
    : Device{options.id + " (virtio-console)"}, loop_{loop}, output_{std::move(output)}, size_{options.size} {}

std::uint64_t Console::features() const { return feature::bit(VIRTIO_CONSOLE_F_SIZE); }

void Console::read_config(std::uint64_t offset, std::span<std::byte> data) noexcept {
    const TerminalSize size = size_;
    const ConsoleConfig config{size.columns, size.rows, 1U, 0U};
    const auto bytes = std::as_bytes(std::span{&config, 1});
    std::ranges::fill(data, std::byte{0});
    if (offset < bytes.size())
        std::memcpy(data.data(), bytes.data() + offset, std::min<std::size_t>(data.size(), bytes.size() - offset));
}

void Console::resize(TerminalSize size) noexcept {
    size_ = size;
    announce_size();
}

void Console::announce_size() noexcept {
    locked([&] {
        if (negotiated(features()))
            config_changed();
    });
}

/// Runs on a vCPU's thread.
void Console::on_activate() noexcept {
    offer_room();
    transmit_later(); // the driver may have notified before the device was ready
}

void Console::on_kick(unsigned index) noexcept {
    if (index != receive_queue)
        return transmit();
    offer_room();
    if (announced_)
        return;
    announced_ = true;
    announcement_ = loop_.after(announce_delay, [weak = weak_from_this()] {
        if (const auto self = weak.lock())
            self->announce_size();
    });
}

/// The size is that of the terminal there is now, and so is input that waits.
void Console::on_state(State& state) {
    state.version(1);
    state.flag("announced", announced_);
    state.number("taken", taken_);
}

void Console::on_resume() noexcept {
    if (announced_ && negotiated(features()))
        config_changed();
}

void Console::offer_room() noexcept {
    if (!wants_room_.exchange(false))
        return;
    later_.post(loop_, receive_queue, weak_from_this(), [](Console& console) {
        if (console.input_room_)
            console.input_room_();
    });
}

std::size_t Console::receive(std::span<const std::byte> bytes) noexcept {
    std::size_t taken = 0;
    wants_room_ = true; // until a driver starts
    locked([&] {
        Queue* ring = queue(receive_queue);
        if (!ring || stopped())
            return;
        const auto hold = memory().hold();
        const bool reachable = ring->refresh();
        ring->ask_notifications(false);
        Turn turn;
        while (reachable && taken < bytes.size() && !turn.over() && ring->pop(chain_)) {
            turn.spend(chain_);
            if (chain_.writable.empty())
                return stop_broken("a buffer for input is not writable");
            const auto written = chain_.copy_to(0, bytes.subspan(taken));
            ring->push(chain_.head, static_cast<std::uint32_t>(written));
            taken += written;
        }
        wants_room_ = taken < bytes.size();
        ring->ask_notifications(wants_room_);
        chain_.clear();
        if (wants_room_ && ring->has_work())
            offer_room();
        signal(receive_queue);
        if (ring->broken())
            stop_broken(ring->broken_reason());
    });
    return taken;
}

void Console::transmit() noexcept {
    Queue* ring = queue(transmit_queue);
    if (!ring || stopped())
        return;
    const auto hold = memory().hold();
    if (!ring->refresh())
        return;
    std::uint64_t budget = bytes_at_once;
    const auto served = serve(*ring, chain_, batch, [&](Chain& chain) {
        if (!chain.writable.empty())
            note_bad_request("output is writable");
        if (!write(chain, budget))
            return false;
        taken_ = 0;
        return true;
    });
    signal(transmit_queue);
    if (served == Served::more || budget == 0)
        transmit_later();
}

void Console::transmit_later() noexcept {
    later_.post(loop_, transmit_queue, weak_from_this(), [](Console& console) { console.kick(transmit_queue); });
}

/// Goes on after taken_. False when some output is left for later.
bool Console::write(Chain& chain, std::uint64_t& budget) noexcept {
    std::uint64_t skip = taken_;
    for (const iovec& piece : chain.readable) {
        chain.work += Turn::system_call;
        const auto skipped = std::min<std::uint64_t>(skip, piece.iov_len);
        skip -= skipped;
        const std::size_t size = std::min<std::uint64_t>(piece.iov_len - skipped, budget);
        const std::size_t done =
            size == 0 ? 0 : output_({static_cast<const std::byte*>(piece.iov_base) + skipped, size});
        chain.work += static_cast<std::uint32_t>(done / 16); // a terminal takes little at a time
        taken_ += done;
        budget -= done;
        if (done < piece.iov_len - skipped)
            return false;
    }
    return true;
}

} // namespace inox::devices::virtio
