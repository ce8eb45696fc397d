// SPDX-License-Identifier: Apache-2.0
#include "vmm/instance/move/move_in.hpp"

#include <algorithm>
#include <array>
#include <cstring>

#include "vmm/config/config_state.hpp"
#include "vmm/machine/preparation.hpp"
#include "vmm/snapshot/memory_file.hpp"
#include "vmm/snapshot/state_file.hpp"

namespace inox {
namespace {

using move::invalid;
using move::Type;

/// Times the memory: a source that does not end its rounds is given up.
constexpr std::uint64_t most_rounds = 64;

} // namespace

Result<MoveIn::Guest> MoveIn::greet() {
    const auto message = TRY(channel_.receive());
    if (message.type != Type::hello)
        return invalid("does not begin as one");
    const auto bytes = TRY(channel_.take_all(message, move::most_state));
    const snapshot::Parts parts{TRY(snapshot::decode(bytes))};
    Guest guest;
    TRY_VOID(parts.restore("config", [&](State& one) { config_state(one, guest.config); }));
    TRY_VOID(parts.restore("mmds", [&](State& one) { mmds_state(one, guest.mmds); }));
    return guest;
}

Result<std::span<std::byte>> MoveIn::place(const GuestMemory& memory, std::uint64_t first, std::uint64_t count) {
    const auto pages = memory.size() / page_size;
    if (count == 0 || first >= pages || count > pages - first)
        return invalid("has memory that the guest has not");
    if (count > left_)
        return invalid("does not come to an end");
    left_ -= count;
    const auto offset = first * page_size;
    const auto size = count * page_size;
    for (const auto& region : memory.regions())
        if (offset >= region.file_offset && offset - region.file_offset < region.host.size() &&
            size <= region.host.size() - (offset - region.file_offset))
            return region.host.subspan(offset - region.file_offset, size);
    return invalid("has memory that lies on both sides of a hole");
}

Result<void> MoveIn::take_pages(const GuestMemory& memory, const move::Message& message) {
    Le64 first{};
    if (message.size < sizeof first || (message.size - sizeof first) % page_size != 0 ||
        (message.size - sizeof first) / page_size > move::most_pages)
        return invalid("has pages of no page's size");
    TRY_VOID(channel_.take(std::as_writable_bytes(std::span{&first, 1})));
    return channel_.take(TRY(place(memory, first, (message.size - sizeof first) / page_size)));
}

Result<void> MoveIn::take_zeros(const GuestMemory& memory, const move::Message& message) {
    std::array<Le64, 2> run{};
    if (message.size != sizeof run)
        return invalid("has pages of no page's size");
    TRY_VOID(channel_.take(std::as_writable_bytes(std::span{run})));
    const auto bytes = TRY(place(memory, run[0], run[1]));
    for (std::size_t at = 0; at < bytes.size(); at += page_size)
        if (const auto page = bytes.subspan(at, page_size); !snapshot::is_zero(page))
            std::memset(page.data(), 0, page.size());
    return {};
}

Result<MoveIn::Whole> MoveIn::receive(const GuestMemory& memory) {
    left_ = memory.size() / page_size * most_rounds;
    TRY_VOID(channel_.send(Type::ready));
    for (;;) {
        const auto message = TRY(channel_.receive());
        if (message.type == Type::pages) {
            TRY_VOID(take_pages(memory, message));
        } else if (message.type == Type::zeros) {
            TRY_VOID(take_zeros(memory, message));
        } else if (message.type == Type::state) {
            const auto bytes = TRY(channel_.take_all(message, move::most_state));
            Whole whole;
            whole.parts = std::make_shared<const snapshot::Parts>(TRY(snapshot::decode(bytes)));
            TRY_VOID(whole.parts->restore("move", [&](State& state) {
                state.version(1);
                state.flag("paused", whole.paused);
            }));
            return whole;
        } else {
            return invalid("has a message that is not the next one");
        }
    }
}

Result<void> MoveIn::take_over() {
    TRY_VOID(channel_.send(Type::loaded));
    return channel_.expect(Type::go);
}

Result<Restored> take_guest(std::shared_ptr<MoveIn> from, const Config& config, bool& paused) {
    auto memory = TRY(create_memory(config));
    auto whole = TRY(from->receive(memory));
    paused = whole.paused;
    Restored restored;
    restored.parts = std::move(whole.parts);
    restored.memory = std::move(memory);
    restored.moved = true;
    restored.before_run = [from = std::move(from)] { return from->take_over(); };
    return restored;
}

void MoveIn::tell_running() { static_cast<void>(channel_.send(Type::running)); }

void MoveIn::refuse(const Error& why) {
    const auto text = std::string{error_name(why.code)} + ": " + why.message();
    static_cast<void>(
        channel_.send(Type::refused, std::as_bytes(std::span{text}.first(std::min(text.size(), move::most_text)))));
}

} // namespace inox
