// SPDX-License-Identifier: Apache-2.0
#include "tests/fakes/assigned.hpp"

namespace inox::fakes {

DeviceBuilder nvme(unsigned vectors, bool resizable) {
    DeviceBuilder builder;
    builder.bar(0, 0x4000, 0x4);
    builder.state->regions[0].msix_mappable = true;
    builder.interrupts(vfio::Interrupt::intx, 1);
    builder.interrupts(vfio::Interrupt::error, 1);
    builder.interrupts(vfio::Interrupt::request, 1);
    builder.msix(0x40, vectors, 0x2000, 0x3000, resizable);
    // Express endpoint, version 2; function level reset; a link.
    std::vector<std::uint8_t> express(0x3a);
    express[0] = 0x02;
    express[5] = 0x10;
    express[10] = 0x11;
    builder.capability(0x80, 0x10, express);
    builder.capability(0x60, 0x01, {0x03, 0xf8, 0x00, 0x00, 0x00, 0x00});
    builder.extended(0x100, 0x01, std::vector<std::uint8_t>(0x44, 0x5a));
    builder.extended(0x150, 0x10, std::vector<std::uint8_t>(0x3c, 0xa5));
    builder.extended(0x200, 0x03, {1, 2, 3, 4, 5, 6, 7, 8});
    return builder;
}

Assigned::Assigned(DeviceBuilder builder, vfio::FunctionOptions options, AssignedHooks given)
    : state{builder.state}, hooks{std::move(given)} {
    auto created = vfio::PciFunction::create(builder.open(), std::move(options), context());
    if (!created) {
        error = created.error();
        return;
    }
    function = *std::move(created);
    address = machine.root->add(function).value();
}

Assigned::~Assigned() {
    if (function && machine.root->find(address) == function)
        (void)machine.root->remove(address);
}

vfio::FunctionContext Assigned::context() {
    return {.irqs = irqs,
            .mappings = mappings,
            .loop = loop,
            .on_event = [this](const vfio::HostDeviceEvent& event) { events.push_back(event); },
            .apart = hooks.apart,
            .share_bar = hooks.share_bar,
            .attach_dma = hooks.attach_dma};
}

void Assigned::unmask(unsigned vector, unsigned table, std::uint64_t offset) {
    bar_set<std::uint32_t>(table, offset + 16 * vector, 0xfee01000);
    bar_set<std::uint32_t>(table, offset + 16 * vector + 4, 0);
    bar_set<std::uint32_t>(table, offset + 16 * vector + 8, 0x40 + vector);
    bar_set<std::uint32_t>(table, offset + 16 * vector + 12, 0);
}

void Assigned::signal(vfio::Interrupt kind, unsigned vector) {
    const std::uint64_t one = 1;
    if (::write(state->wired.at(kind).at(vector), &one, sizeof one) != sizeof one)
        std::abort();
}

bool Assigned::settle(const std::function<bool()>& done, std::chrono::milliseconds limit) {
    return tests::run_until(loop, done, limit);
}

bool Assigned::fails() {
    return settle([&] { return function->failed(); }, std::chrono::seconds{20});
}

} // namespace inox::fakes
