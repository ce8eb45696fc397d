// SPDX-License-Identifier: Apache-2.0
#include "vmm/config/config_state.hpp"

#include <algorithm>

#include "vmm/memory/layout.hpp"

namespace inox {
namespace {

constexpr std::size_t most_devices = 1024;
constexpr std::size_t most_modifiers = 4096;

void bucket_state(State& state, const char* name, std::optional<devices::BucketLimits>& bucket) {
    std::vector<devices::BucketLimits> values;
    if (bucket)
        values.push_back(*bucket);
    state.list(name, values, 1, [](State& inner, devices::BucketLimits& limits) {
        inner.number("size", limits.size);
        inner.number("one_time_burst", limits.one_time_burst);
        auto time = static_cast<std::uint64_t>(limits.refill_time.count());
        inner.number("refill_time_ms", time, std::uint64_t{0}, std::uint64_t{UINT32_MAX});
        limits.refill_time = std::chrono::milliseconds{time};
    });
    if (state.restores() && state.ok())
        bucket = values.empty() ? std::nullopt : std::optional{values.front()};
}

void modifier_state(State& state, boot::CpuidModifier& modifier) {
    state.number("leaf", modifier.leaf);
    state.number("subleaf", modifier.subleaf);
    state.choice("register", modifier.reg, boot::CpuidModifier::Register::edx);
    state.number("mask", modifier.mask);
    state.number("value", modifier.value);
    state.number("flags", modifier.flags);
}

void machine_state(State& state, MachineConfig& machine) {
    state.version(1);
    state.number("cpus", machine.cpus, 1U, layout::max_cpus);
    state.number("memory", machine.memory, layout::min_ram, layout::max_ram);
    state.choice("huge_pages", machine.huge_pages, HugePages::two_mib);
    state.flag("smt", machine.smt);
    state.choice("transport", machine.transport, Transport::mmio);
    state.flag("end_on_panic", machine.end_on_panic);
    state.flag("panic_text", machine.panic_text);
    state.list("cpuid", machine.cpuid, most_modifiers, modifier_state);
    optional_field(state, "pci_window_32", machine.windows.bars_32);
    optional_field(state, "pci_window_64", machine.windows.bars_64);
    machine.most_cpus = std::max(machine.most_cpus, machine.cpus);
}

/// For display, and for a Firecracker client that asks: nothing of it is opened.
void boot_state(State& state, BootConfig& boot) {
    state.text("kernel", boot.kernel, most_text);
    state.text("initrd", boot.initrd, most_text);
    state.text("cmdline", boot.cmdline, layout::cmdline_capacity);
    state.flag("own_cmdline", boot.own_cmdline);
}

void smbios_state(State& state, boot::SmbiosSystem& system) {
    static constexpr auto longest = boot::SmbiosSystem::longest;
    state.text("manufacturer", system.manufacturer, longest);
    state.text("product", system.product, longest);
    state.text("version_text", system.version, longest);
    state.text("serial", system.serial, longest);
    state.text("sku", system.sku, longest);
    state.text("family", system.family, longest);
}

void device_state(State& state, DeviceConfig& device) {
    std::string kind =
        std::visit([]<class Options>(const Options&) { return std::string{Kind<Options>::name}; }, device);
    state.text("kind", kind, most_text);
    if (state.restores()) {
        const auto found = parse_kind(kind);
        state.check(found.has_value(), "a kind of device that this inox has not");
        if (!found || !state.ok())
            return;
        DeviceKinds::with(*found, [&]<class Options>() { device = Options{}; });
    }
    state.part("options", [&](State& inner) {
        std::visit([&]<class Options>(Options& options) { Kind<Options>::state(inner, options); }, device);
    });
}

} // namespace

void limits_state(State& state, const char* name, devices::RateLimits& limits) {
    state.part(name, [&](State& inner) {
        bucket_state(inner, "bandwidth", limits.bandwidth);
        bucket_state(inner, "ops", limits.ops);
    });
}

void config_state(State& state, Config& config) {
    state.version(1);
    state.part("machine", [&](State& inner) { machine_state(inner, config.machine); });
    state.part("boot", [&](State& inner) { boot_state(inner, config.boot); });
    state.part("smbios", [&](State& inner) { smbios_state(inner, config.smbios); });
    std::optional<std::uint32_t> quota;
    if (config.pasid)
        quota = config.pasid->quota;
    optional_field(state, "pasid_quota", quota);
    state.list("devices", config.devices, most_devices, device_state);
    if (!state.restores() || !state.ok())
        return;
    config.pasid.reset();
    if (quota)
        config.pasid = PasidConfig{*quota};
    config.root.reset();
    config.command.reset();
    if (const auto problems = check(config); !problems.empty())
        state.check(false, problems.front().what.c_str());
}

void mmds_state(State& state, std::optional<MmdsConfig>& mmds) {
    std::vector<MmdsConfig> values;
    if (mmds)
        values.push_back(*mmds);
    state.list("mmds", values, 1, [](State& inner, MmdsConfig& one) {
        inner.list("interfaces", one.interfaces, most_devices,
                   [](State& each, std::string& id) { each.text("id", id, most_text); });
        inner.flag("version_2", one.version_2);
        inner.text("address", one.address, most_text);
        inner.flag("imds_compatible", one.imds_compatible);
    });
    if (state.restores() && state.ok())
        mmds = values.empty() ? std::nullopt : std::optional{values.front()};
}

} // namespace inox
