// SPDX-License-Identifier: Apache-2.0
#include "vmm/machine/preparation.hpp"

#include <algorithm>
#include <linux/kvm.h>

#include "vmm/boot/image.hpp"
#include "vmm/guest_root/guest_root.hpp"
#include "vmm/host/host_speed.hpp"
#include "vmm/host/vfio_preflight.hpp"
#include "vmm/machine/platform.hpp"
#include "vmm/memory/memory_limits.hpp"

namespace inox {
Result<AddressMap> plan_memory(const Config& config) {
    std::vector<kvm_cpuid_entry2> leaf(1);
    leaf.front().function = address_leaf;
    leaf.front().eax = host_address_leaf();
    for (const auto& modifier : config.machine.cpuid)
        if (modifier.leaf == address_leaf && modifier.subleaf == 0)
            TRY_VOID(boot::modify_cpuid(leaf, {modifier}));
    auto plan = plan_addresses(config.machine.memory, usable_address_bits(leaf.front().eax), config.machine.windows);
    const bool memory = !plan && plan.error().code == Errc::memory_invalid;
    return placed(std::move(plan), memory ? "/machine-config/mem_size_mib" : "/inox/pci_window_64_mib");
}

namespace {

GuestMemory::Sharing sharing_of(const Config& config) {
    const auto shares = devices_of<devices::virtio::FsOptions>(config);
    const bool daemon = std::ranges::any_of(shares, [](const auto* share) { return !share->socket.empty(); });
    return daemon ? GuestMemory::Sharing::needed : GuestMemory::Sharing::unneeded;
}

} // namespace

bool maps_image(const Config& config) {
    return config.machine.huge_pages != HugePages::two_mib && sharing_of(config) == GuestMemory::Sharing::unneeded;
}

Result<GuestMemory> restore_memory(const Config& config, Gpa hole, UniqueFd image) {
    TRY_VOID(check_memory_limits({}, config.machine.memory, config.machine.huge_pages));
    auto memory = TRY(GuestMemory::restore(config.machine.memory, config.machine.huge_pages, sharing_of(config), hole,
                                           std::move(image)));
    memory.dirty().track(config.machine.track_dirty_pages);
    return memory;
}

Result<GuestMemory> create_memory(const Config& config) {
    const auto plan = TRY(plan_memory(config));
    const auto sharing = sharing_of(config);
    const bool two_mib = config.machine.huge_pages == HugePages::two_mib;
    TRY_VOID(placed(check_memory_limits({}, config.machine.memory, config.machine.huge_pages),
                    "/machine-config/huge_pages"));
    auto memory = TRY(placed(GuestMemory::create(config.machine.memory, config.machine.huge_pages, sharing, plan.hole),
                             two_mib ? "/machine-config/huge_pages" : "/machine-config/mem_size_mib"));
    memory.dirty().track(config.machine.track_dirty_pages);
    return memory;
}

std::string_view load_place(Errc code) {
    if (code == Errc::initrd_missing || code == Errc::initrd_does_not_fit)
        return "/boot-source/initrd_path";
    return code == Errc::cmdline_too_long ? "/boot-source/boot_args" : "/boot-source/kernel_image_path";
}

Result<boot::Loaded> load_images(const Config& config, const GuestMemory& memory, const std::stop_token& stop) {
    const boot::LoadRequest request{config.boot.kernel, config.boot.initrd, kernel_cmdline(config), stop};
    auto loaded = [&]() -> Result<boot::Loaded> {
        if (!config.root)
            return boot::load(request, memory);
        const auto bytes = TRY(guest_root::make_initrd(config, stop));
        const auto kernel = TRY(boot::Image::open(config.boot.kernel, boot::Image::kernel, stop));
        const auto initrd = boot::Image::of(bytes, "made for the root", boot::Image::initrd);
        return boot::load_images(kernel, &initrd, request, memory);
    }();
    if (!loaded && loaded.error().where.empty()) {
        const bool too_large = config.root && loaded.error().code == Errc::initrd_does_not_fit;
        loaded.error().where = too_large ? "/machine-config/mem_size_mib" : load_place(loaded.error().code);
    }
    return loaded;
}

Result<void> look_at_assigned(const Config& config) {
    if (device_of<VfioConfig>(config) != nullptr)
        if (auto found = vfio_preflight(config, {}); !found.problems.empty())
            return std::unexpected<Error>{std::move(found.problems.front())};
    return {};
}

Result<Kvm> open_kvm(const Config& config) {
    auto kvm = TRY(Kvm::open());
    const auto cpus = config.machine.cpus;
    const int most = kvm.check(KVM_CAP_MAX_VCPUS);
    if (most > 0 && cpus > static_cast<unsigned>(most))
        return fail_at("/machine-config/vcpu_count", Errc::cpus_invalid,
                       format("%u CPUs asked for, but this KVM has at most %d", cpus, most), "ask for fewer CPUs");
    if (!config.machine.cpuid.empty()) {
        auto request = cpuid_request(config, kvm);
        request.tsc_khz = 1; // any value: it makes the TSC's leaf exist
        auto supported = TRY(kvm.supported_cpuid());
        TRY_VOID(guest_cpuid(config, std::move(supported), request));
    }
    return kvm;
}

boot::CpuidRequest cpuid_request(const Config& config, const Kvm& kvm) {
    boot::CpuidRequest request;
    request.cpus = config.machine.cpus;
    request.smt = config.machine.smt;
    request.tsc_deadline = kvm.check(KVM_CAP_TSC_DEADLINE_TIMER) > 0;
    request.enqcmd = has_pasids(config) && kvm_interprets();
    return request;
}

Result<std::vector<kvm_cpuid_entry2>> guest_cpuid(const Config& config, std::vector<kvm_cpuid_entry2> supported,
                                                  const boot::CpuidRequest& request) {
    auto cpuid = boot::guest_cpuid(std::move(supported), request);
    TRY_VOID(placed(boot::modify_cpuid(cpuid, config.machine.cpuid), "/cpu-config/cpuid_modifiers"));
    return cpuid;
}

} // namespace inox
