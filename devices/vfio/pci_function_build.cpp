// SPDX-License-Identifier: Apache-2.0
// How a PciFunction is made: its reset, registers, BARs and capabilities.
#include <algorithm>
#include <array>
#include <bit>
#include <utility>

#include "devices/vfio/pci_function.hpp"

namespace inox::devices::vfio {
namespace {

namespace reg = pci::reg;
namespace command_bit = pci::command_bit;

constexpr std::uint32_t bar_io = 0x1;
constexpr std::uint32_t bar_type = 0x6;
constexpr std::uint32_t bar_64_bit = 0x4;
constexpr std::uint32_t bar_prefetchable = 0x8;
constexpr unsigned rom_least = 2 * 1024;
constexpr std::uint64_t io_most = 256;
constexpr std::uint64_t memory_least = 16;

Result<std::vector<std::byte>> read_registers(const HostDevice& device) {
    const bool express = device.region(region_config).size >= pci::ConfigSpace::express;
    std::vector<std::byte> registers(express ? pci::ConfigSpace::express : pci::ConfigSpace::conventional);
    for (std::size_t at = 0; at < registers.size(); at += 4)
        if (!device.read(region_config, at, std::span{registers}.subspan(at, 4)))
            return inox::fail(Errc::host_error,
                              format("%s: cannot read its configuration space", device.name().c_str()),
                              "look at the host's kernel log: the device may be broken or in a low-power state");
    if (load_le<std::uint32_t>(std::span{registers}.subspan(reg::revision, 4)) == ~std::uint32_t{0})
        return inox::fail(Errc::host_error,
                          device.name() + " reads as ones: it did not return from a reset or a low-power state",
                          "look at the host's kernel log; loading vfio-pci with disable_idle_d3=1 keeps devices awake");
    return registers;
}

pci::Identity identity(std::span<const std::byte> registers) {
    const auto word = [&](unsigned at) { return load_le<std::uint16_t>(registers.subspan(at, 2)); };
    const auto revision = load_le<std::uint32_t>(registers.subspan(reg::revision, 4));
    return {.vendor = word(reg::vendor),
            .device = word(reg::device),
            .class_code = revision >> 8,
            .revision = static_cast<std::uint8_t>(revision),
            .subsystem_vendor = word(reg::subsystem_vendor),
            .subsystem = word(reg::subsystem)};
}

} // namespace

Result<std::unique_ptr<PciFunction>> PciFunction::create(std::unique_ptr<HostDevice> device, FunctionOptions options,
                                                         FunctionContext context) {
    const auto registers = TRY(read_registers(*device));
    std::unique_ptr<PciFunction> function{new PciFunction{std::move(device), std::move(options), std::move(context),
                                                          identity(registers), registers.size()}};
    TRY_VOID(function->build(registers));
    return function;
}

PciFunction::PciFunction(std::unique_ptr<HostDevice> device, FunctionOptions options, FunctionContext context,
                         const pci::Identity& identity, std::size_t config_size)
    : Function{identity, static_cast<unsigned>(config_size)}, device_{std::move(device)}, options_{std::move(options)},
      context_{std::move(context)}, name_{device_->name()}, wiring_{*device_}, bars_{context_.mappings} {}

Result<void> PciFunction::build(std::span<const std::byte> registers) {
    reset_device();
    const ConfigChoices choices{.msi = device_->interrupt(Interrupt::msi).count > 0,
                                .msix = device_->interrupt(Interrupt::msix).count > 0,
                                .synthesised = options_.synthesised};
    auto plan = plan_config(registers, choices, config());
    if (!plan)
        return inox::fail(plan.error().code, name_ + ": " + plan.error().what, plan.error().hint);
    plan_ = *std::move(plan);
    add_bars(registers);
    if (options_.rom)
        add_rom();
    if (plan_->msi) {
        const auto control = load_le<std::uint16_t>(registers.subspan(*plan_->msi + 2, 2));
        msi_ = std::make_unique<pci::Msi>(context_.irqs, pci::MsiLayout::decode(*plan_->msi, control));
        msi_->install(config());
    }
    if (plan_->msix)
        TRY_VOID(add_msix(registers));
    prepare_bars();
    const auto pin = load_le<std::uint8_t>(registers.subspan(reg::interrupt_pin, 1));
    if (pin >= 1 && pin <= 4 && device_->interrupt(Interrupt::intx).count > 0)
        config().set_interrupt_pin(pin);
    config().watch(reg::command, 2, [this] { forward_command(); });
    write_command(0);
    TRY_VOID(watch(Interrupt::error, [this] { fail("it reported an error to the host (see the host's kernel log)"); }));
    return watch(Interrupt::request, [this] {
        if (!failed() && lost()) // it was pulled out, and the host asks for what is left
            fail(gone_text);
        const auto text = "the host asks for " + name_ + " back";
        log::write(log::Level::warning, "%s", text.c_str());
        if (context_.on_event)
            context_.on_event({HostDeviceEvent::What::asked_back, text});
    });
}

/// A function level reset, otherwise one of the bus, otherwise a warning: the guest finds what the last user left.
void PciFunction::reset_device() {
    if (device_->reset_by_opening())
        return;
    const auto done = device_->can_reset() ? device_->reset() : reset_bus();
    if (done)
        return;
    const auto text =
        name_ + " was not reset, so the guest finds the state that its last user left: " + done.error().message();
    log::write(log::Level::warning, "%s", text.c_str());
    if (context_.on_event)
        context_.on_event({HostDeviceEvent::What::cannot_reset, text});
}

Result<void> PciFunction::reset_bus() const {
    for (const auto& peer : TRY(device_->reset_peers())) {
        if (!peer.owned)
            return inox::fail(Errc::in_use, "a reset of its bus would hit " + peer.address.text() +
                                                ", which is not assigned to this guest");
        if (context_.guest_uses && context_.guest_uses(peer.address))
            return inox::fail(Errc::in_use,
                              "a reset of its bus would hit " + peer.address.text() + ", which the guest is using");
    }
    TRY_VOID(device_->hot_reset());
    log::write(log::Level::info, "%s was reset with its bus", name_.c_str());
    return {};
}

void PciFunction::add_bars(std::span<const std::byte> registers) {
    for (unsigned index = 0; index < region_rom; ++index) {
        const auto flags = load_le<std::uint32_t>(registers.subspan(reg::bar0 + 4 * index, 4));
        const auto added = add_bar(index, flags);
        if (!added)
            log::write(log::Level::warning, "%s: the guest does not see BAR %u: %s", name_.c_str(), index,
                       added.error().message().c_str());
        const auto& bar = config().bar(index);
        if (bar && bar->kind == pci::BarKind::memory64)
            ++index;
    }
}

Result<void> PciFunction::add_bar(unsigned index, std::uint32_t flags) {
    const auto size = device_->region(index).size;
    if (size == 0)
        return {};
    pci::Bar bar{.kind = pci::BarKind::io, .size = std::bit_ceil(size)};
    if (!(flags & bar_io)) {
        bar.kind = (flags & bar_type) == bar_64_bit ? pci::BarKind::memory64 : pci::BarKind::memory32;
        bar.prefetchable = (flags & bar_prefetchable) != 0;
        bar.size = std::max(bar.size, memory_least);
    } else if (bar.size > io_most) {
        return inox::fail(Errc::unsupported, format("it has %llu bytes of I/O ports, more than PCI allows",
                                                    static_cast<unsigned long long>(size)));
    }
    TRY_VOID(config().add_bar(index, bar));
    decoding_ |= bar.kind == pci::BarKind::io ? command_bit::io : command_bit::memory;
    return {};
}

void PciFunction::add_rom() {
    const auto size = device_->region(region_rom).size;
    if (size == 0)
        return;
    const auto added =
        config().add_bar(pci::rom_bar, {.kind = pci::BarKind::memory32,
                                        .size = std::max<std::uint64_t>(std::bit_ceil(size), rom_least)});
    if (added)
        decoding_ |= command_bit::memory;
}

Result<void> PciFunction::add_msix(std::span<const std::byte> registers) {
    const unsigned at = *plan_->msix;
    const auto control = load_le<std::uint16_t>(registers.subspan(at + 2, 2));
    const auto table = load_le<std::uint32_t>(registers.subspan(at + 4, 4));
    const auto pba = load_le<std::uint32_t>(registers.subspan(at + 8, 4));
    pci::MsixLayout layout{.vectors = static_cast<std::uint16_t>((control & 0x7ff) + 1),
                           .table_bar = static_cast<std::uint8_t>(table & 7),
                           .table_offset = table & ~7U,
                           .pba_bar = static_cast<std::uint8_t>(pba & 7),
                           .pba_offset = pba & ~7U};
    const auto inside = [&](unsigned bar, std::uint64_t offset, std::uint64_t size) {
        return bar < region_rom && config().bar(bar) && config().bar(bar)->kind != pci::BarKind::io &&
               offset + size <= device_->region(bar).size;
    };
    if (!inside(layout.table_bar, layout.table_offset, layout.table_size()) ||
        !inside(layout.pba_bar, layout.pba_offset, layout.pba_size()))
        return inox::fail(Errc::unsupported, name_ + ": its MSI-X table lies outside its BARs");
    if (options_.relocate_msix)
        TRY_VOID(relocate(layout));
    config().set(at + 2, static_cast<std::uint16_t>(layout.vectors - 1));
    config().allow_writes<std::uint16_t>(at + 2, 0xc000);
    config().set(at + 4, layout.table_offset | layout.table_bar);
    config().set(at + 8, layout.pba_offset | layout.pba_bar);
    msix_ = std::make_unique<pci::Msix>(context_.irqs, layout);
    msix_->watch_capability(config(), at);
    msix_->on_vector([this](unsigned vector, bool live, int eventfd) {
        if (live)
            wiring_.set_msix_vector(vector, eventfd);
    });
    return {};
}

bool PciFunction::bar_free(unsigned index) const {
    return index < region_rom && !config().bar(index) &&
           !(index > 0 && config().bar(index - 1) && config().bar(index - 1)->kind == pci::BarKind::memory64);
}

/// Does nothing unless the kernel allows mapping the table's page, because only then relocation helps.
Result<void> PciFunction::relocate(pci::MsixLayout& layout) {
    unsigned index = options_.msix_bar.value_or(0);
    if (options_.msix_bar && !bar_free(index))
        return inox::fail(Errc::config_value,
                          format("%s: BAR %u is not free for its MSI-X table", name_.c_str(), index),
                          "leave the choice of the BAR to inox");
    while (!options_.msix_bar && index < region_rom && !bar_free(index))
        ++index;
    if (index == region_rom || !device_->region(layout.table_bar).msix_mappable) {
        log::write(log::Level::warning, "%s: its MSI-X table stays in BAR %u: %s", name_.c_str(), layout.table_bar,
                   index == region_rom ? "no other BAR is free" : "the host does not let its page be mapped");
        return {};
    }
    layout.table_bar = layout.pba_bar = static_cast<std::uint8_t>(index);
    layout.table_offset = 0;
    layout.pba_offset = layout.table_size();
    const std::uint64_t size = layout.pba_offset + layout.pba_size();
    TRY_VOID(
        config().add_bar(index, {.kind = pci::BarKind::memory32, .size = std::max(std::bit_ceil(size), page_size)}));
    msix_moved_to_ = index;
    return {};
}

void PciFunction::prepare_bars() {
    for (unsigned index = 0; index < region_rom; ++index) {
        if (!config().bar(index) || config().bar(index)->kind == pci::BarKind::io || index == msix_moved_to_)
            continue;
        std::vector<RegionArea> trapped;
        if (msix_ && !msix_moved_to_ && msix_->layout().table_bar == index)
            trapped.push_back({msix_->layout().table_offset, msix_->layout().table_size()});
        if (msix_ && !msix_moved_to_ && msix_->layout().pba_bar == index)
            trapped.push_back({msix_->layout().pba_offset, msix_->layout().pba_size()});
        bars_.prepare(*device_, index, device_->region(index), trapped);
    }
}

/// `handler` may release everything, including this object.
Result<void> PciFunction::watch(Interrupt kind, std::function<void()> handler) {
    if (device_->interrupt(kind).count == 0)
        return {};
    const auto index = events_.size();
    const int fd = events_.emplace_back(TRY(EventFd::create())).fd();
    watches_.push_back(TRY(context_.loop.watch(fd, [this, index, handler = std::move(handler)] {
        const auto self = shared_from_this();
        events_[index].drain();
        handler();
    })));
    const std::array<int, 1> fds{fd};
    return device_->enable(kind, 0, fds);
}

} // namespace inox::devices::vfio
