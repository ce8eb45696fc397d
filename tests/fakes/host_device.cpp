// SPDX-License-Identifier: Apache-2.0
#include "tests/fakes/host_device.hpp"

#include <algorithm>

#include "tests/fakes/vfio_device.hpp"
#include "vmm/base/bytes.hpp"

namespace inox::fakes {

void FakeHostDevice::State::add_region(unsigned index, std::uint64_t size) {
    auto& region = regions[index];
    region.size = size;
    region.readable = true;
    region.writable = index != vfio::region_rom;
    if (index < vfio::region_rom && size >= page_size)
        region.areas = {{0, size}};
    UniqueFd file{::memfd_create("region", MFD_CLOEXEC)};
    const auto whole = align_up(size, page_size);
    if (::ftruncate(file.get(), static_cast<off_t>(whole)) != 0)
        std::abort();
    auto view = inox::Mapping::create(whole, PROT_READ | PROT_WRITE, MAP_SHARED, file.get(), 0);
    memory.insert_or_assign(index, Memory{std::move(file), std::move(view).value()});
}

std::span<std::byte> FakeHostDevice::State::at(unsigned region, std::uint64_t offset, std::size_t size) {
    const auto bytes = memory.at(region).view.bytes();
    if (offset > bytes.size() || size > bytes.size() - offset)
        std::abort();
    return bytes.subspan(offset, size);
}

void FakeHostDevice::State::poke(unsigned region, std::uint64_t offset, std::span<const std::byte> bytes) {
    const std::lock_guard lock{mutex};
    std::ranges::copy(bytes, at(region, offset, bytes.size()).begin());
}

std::vector<FakeHostDevice::Access> FakeHostDevice::State::take_config_writes() {
    std::vector<Access> found;
    for (const auto& write : writes)
        if (write.region == vfio::region_config)
            found.push_back(write);
    writes.clear();
    return found;
}

bool FakeHostDevice::read(unsigned index, std::uint64_t offset, std::span<std::byte> out) const noexcept {
    const std::lock_guard lock{state_->mutex};
    const auto& region = state_->regions[index];
    if (state_->io_error || offset + out.size() > region.size)
        return false;
    std::ranges::copy(state_->at(index, offset, out.size()), out.begin());
    for (std::size_t i = 0; state_->gone && i < out.size(); ++i)
        if (index != vfio::region_config || !kept_by_vfio(offset + i))
            out[i] = std::byte{0xff};
    if (index != vfio::region_config)
        state_->reads.push_back({index, offset, out.size(), load_le(out)});
    return true;
}

bool FakeHostDevice::write(unsigned index, std::uint64_t offset, std::span<const std::byte> in) const noexcept {
    const std::lock_guard lock{state_->mutex};
    const auto& region = state_->regions[index];
    if (state_->io_error || !region.writable || offset + in.size() > region.size)
        return false;
    if (state_->gone)
        return true;
    state_->writes.push_back({index, offset, in.size(), load_le(in)});
    std::ranges::copy(in, state_->at(index, offset, in.size()).begin());
    return true;
}

Result<inox::Mapping> FakeHostDevice::map(unsigned index, vfio::RegionArea part) const {
    const bool allowed = std::ranges::any_of(state_->regions[index].areas, [&](const auto& area) {
        return part.offset >= area.offset && part.offset + part.size <= area.offset + area.size;
    });
    if (!allowed || state_->refuse_maps || !is_aligned(part.offset | part.size, page_size))
        return fail(Errc::host_error, "the fake refuses to map");
    return inox::Mapping::create(part.size, PROT_READ | PROT_WRITE, MAP_SHARED, state_->memory.at(index).file.get(),
                                 static_cast<std::int64_t>(part.offset));
}

const vfio::InterruptInfo& FakeHostDevice::interrupt(vfio::Interrupt kind) const {
    return state_->interrupts.at(static_cast<std::size_t>(kind));
}

Result<void> FakeHostDevice::enable(vfio::Interrupt kind, unsigned start, std::span<const int> fds) {
    const auto& info = interrupt(kind);
    const bool pin = kind <= vfio::Interrupt::msix;
    auto& wired = state_->wired;
    for (const auto other : {vfio::Interrupt::intx, vfio::Interrupt::msi, vfio::Interrupt::msix})
        if (pin && other != kind && wired.contains(other))
            return fail(Errc::host_error, "another kind of interrupt is enabled");
    const auto enabled = wired.contains(kind) ? wired[kind].size() : 0;
    const auto end = start + fds.size();
    if (fds.empty() || end > info.count || (enabled && end > enabled && !info.resizable))
        return fail(Errc::host_error, "no such vectors");
    if (end > state_->vectors_left)
        return fail(Errc::host_error, "the host has no more vectors");
    wired[kind].resize(std::max(enabled, end), -1);
    std::ranges::copy(fds, wired[kind].begin() + start);
    state_->calls.push_back(format("enable %s %u+%zu", text(kind), start, fds.size()));
    return {};
}

Result<void> FakeHostDevice::disable(vfio::Interrupt kind) {
    state_->wired.erase(kind);
    state_->calls.push_back(std::string{"disable "} + text(kind));
    return {};
}

Result<void> FakeHostDevice::unmask_intx_on(int fd) {
    if (!state_->wired.contains(vfio::Interrupt::intx))
        return fail(Errc::host_error, "INTx is off");
    state_->unmask = fd;
    return {};
}

Result<void> FakeHostDevice::reset() {
    ++state_->resets;
    state_->calls.emplace_back("reset");
    return {};
}

Result<std::vector<vfio::ResetPeer>> FakeHostDevice::reset_peers() const {
    if (state_->peers.empty())
        return fail(Errc::not_found, "the bus has no reset");
    return state_->peers;
}

Result<void> FakeHostDevice::hot_reset() {
    ++state_->bus_resets;
    state_->calls.emplace_back("bus reset");
    return {};
}

const char* FakeHostDevice::text(vfio::Interrupt kind) {
    constexpr std::array<const char*, vfio::interrupt_count> names{"intx", "msi", "msix", "error", "request"};
    return names[static_cast<std::size_t>(kind)];
}

Result<Registration> FakeGuestMappings::map(Range<Gpa> range, std::span<std::byte> host, bool read_only, const char*) {
    if (range.size() != host.size() || !is_aligned(range.start().raw() | range.size(), page_size))
        return fail(Errc::internal, "not whole pages");
    for (const auto& slot : *slots)
        if (slot.range.overlaps(range))
            return fail(Errc::already_exists, "the fake's slots overlap");
    slots->push_back({range, host.data(), read_only});
    return Registration{
        [list = slots, range] { std::erase_if(*list, [&](const Slot& slot) { return slot.range == range; }); }};
}

std::vector<std::uint64_t> FakeGuestMappings::starts() const {
    std::vector<std::uint64_t> found;
    for (const auto& slot : *slots)
        found.push_back(slot.range.start().raw());
    std::ranges::sort(found);
    return found;
}

DeviceBuilder::DeviceBuilder(unsigned config_size) {
    state->add_region(vfio::region_config, config_size);
    state->config<std::uint32_t>(0x00, 0x00101b36);
    state->config<std::uint16_t>(0x06, 0x0010);
    state->config<std::uint32_t>(0x08, 0x01080202);
    state->config<std::uint32_t>(0x2c, 0x11001af4);
}

DeviceBuilder& DeviceBuilder::bar(unsigned index, std::uint64_t size, std::uint32_t flags) {
    state->add_region(index, size);
    state->config<std::uint32_t>(0x10 + 4 * index, flags);
    return *this;
}

DeviceBuilder& DeviceBuilder::interrupts(vfio::Interrupt kind, unsigned count, bool resizable) {
    state->interrupts[static_cast<std::size_t>(kind)] = {.count = count, .resizable = resizable};
    if (kind == vfio::Interrupt::intx)
        state->config<std::uint8_t>(0x3d, 1);
    return *this;
}

unsigned DeviceBuilder::capability(unsigned at, std::uint8_t id, std::vector<std::uint8_t> body) {
    state->config<std::uint8_t>(last_ ? last_ + 1 : 0x34, static_cast<std::uint8_t>(at));
    state->config<std::uint16_t>(at, id);
    state->poke(vfio::region_config, at + 2, std::as_bytes(std::span{body}));
    return last_ = at;
}

unsigned DeviceBuilder::extended(unsigned at, std::uint16_t id, std::vector<std::uint8_t> body) {
    state->config<std::uint32_t>(at, id | 1U << 16);
    if (last_extended_)
        state->config<std::uint32_t>(last_extended_,
                                     state->get<std::uint32_t>(vfio::region_config, last_extended_) | at << 20);
    state->poke(vfio::region_config, at + 4, std::as_bytes(std::span{body}));
    return last_extended_ = at;
}

unsigned DeviceBuilder::msix(unsigned at, unsigned vectors, std::uint32_t table, std::uint32_t pba, bool resizable) {
    interrupts(vfio::Interrupt::msix, vectors, resizable);
    capability(at, 0x11);
    state->config<std::uint16_t>(at + 2, static_cast<std::uint16_t>(vectors - 1));
    state->config<std::uint32_t>(at + 4, table);
    state->config<std::uint32_t>(at + 8, pba);
    return at;
}

unsigned DeviceBuilder::msi(unsigned at, unsigned vectors, std::uint16_t control) {
    interrupts(vfio::Interrupt::msi, vectors);
    capability(at, 0x05);
    state->config<std::uint16_t>(at + 2, control);
    return at;
}

} // namespace inox::fakes
