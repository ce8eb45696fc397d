// SPDX-License-Identifier: Apache-2.0
#include "vmm/machine/preparation.hpp"

#include <linux/kvm.h>

#include "devices/virtio/balloon.hpp"
#include "devices/virtio/block/block.hpp"
#include "devices/virtio/entropy.hpp"
#include "devices/virtio/fs.hpp"
#include "devices/virtio/net/net.hpp"
#include "devices/virtio/vsock/vsock.hpp"
#include "vmm/host/host_speed.hpp"
#include "vmm/host/vfio_preflight.hpp"
#include "vmm/memory/memory_limits.hpp"

namespace inox {
namespace {

/// One overload for each kind of DeviceConfig.
struct Opener {
    const OpeningContext& context;

    Result<OpenedDevice> operator()(const DriveConfig& drive) const {
        return virtio(TRY(devices::virtio::Block::create(drive.block, context.loop)));
    }
    Result<OpenedDevice> operator()(const devices::virtio::NetOptions& net) const {
        return virtio(TRY(devices::virtio::Net::create(net, context.loop)));
    }
    Result<OpenedDevice> operator()(const devices::virtio::VsockOptions& vsock) const {
        return virtio(TRY(devices::virtio::Vsock::create(vsock, context.loop)));
    }
    Result<OpenedDevice> operator()(const devices::virtio::EntropyOptions& entropy) const {
        return virtio(TRY(devices::virtio::Entropy::create(entropy, context.loop)));
    }
    Result<OpenedDevice> operator()(const devices::virtio::BalloonOptions& balloon) const {
        return virtio(TRY(devices::virtio::Balloon::create(balloon, context.loop, context.memory)));
    }
    Result<OpenedDevice> operator()(const ConsoleConfig& /*console*/) const {
        auto console = TRY(devices::virtio::Console::create(
            {}, context.loop, [peer = context.console](auto bytes) { return peer ? peer->console_output(bytes) : 0; }));
        if (context.console)
            console->on_input_room([peer = context.console] { peer->on_input_room(); });
        return virtio(std::move(console));
    }
    Result<OpenedDevice> operator()(const devices::virtio::FsOptions& share) const {
        return virtio(TRY(devices::virtio::Fs::create(share, context.loop, context.memory)));
    }
    Result<OpenedDevice> operator()(const VfioConfig& /*device*/) const { return OpenedDevice{}; }
    Result<OpenedDevice> operator()(const DsaConfig& dsa) const {
        OpenedDevice opened;
        if (!dsa.forward.empty())
            opened.host_queue = TRY(devices::dsa::HostQueue::open(dsa.forward));
        return opened;
    }

private:
    static OpenedDevice virtio(std::shared_ptr<devices::virtio::Device> device) {
        return {.virtio = std::move(device), .host_queue = {}};
    }
};

} // namespace

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

Result<GuestMemory> create_memory(const Config& config) {
    const auto plan = TRY(plan_memory(config));
    const auto sharing = config.shares.empty() ? GuestMemory::Sharing::unneeded : GuestMemory::Sharing::needed;
    const bool two_mib = config.machine.huge_pages == HugePages::two_mib;
    TRY_VOID(placed(check_memory_limits({}, config.machine.memory, config.machine.huge_pages),
                    "/machine-config/huge_pages"));
    return placed(GuestMemory::create(config.machine.memory, config.machine.huge_pages, sharing, plan.hole),
                  two_mib ? "/machine-config/huge_pages" : "/machine-config/mem_size_mib");
}

std::string_view load_place(Errc code) {
    if (code == Errc::initrd_missing || code == Errc::initrd_does_not_fit)
        return "/boot-source/initrd_path";
    return code == Errc::cmdline_too_long ? "/boot-source/boot_args" : "/boot-source/kernel_image_path";
}

Result<OpenedDevice> open_device(const DeviceConfig& config, const OpeningContext& context) {
    return std::visit(Opener{context}, config);
}

Result<void> look_at_assigned(const Config& config) {
    if (!config.vfio.empty())
        if (auto found = vfio_preflight(config, {}); !found.problems.empty())
            return std::unexpected<Error>{std::move(found.problems.front())};
    return {};
}

Result<std::vector<OpenedDevice>> open_devices(const Config& config, const OpeningContext& context) {
    std::vector<OpenedDevice> opened;
    for (const auto& device : placed_devices(config))
        opened.push_back(TRY(placed(open_device(device.config, context), device.where)));
    return opened;
}

Result<Kvm> open_kvm(const Config& config) {
    auto kvm = TRY(Kvm::open());
    const auto cpus = config.machine.cpus;
    const int most = kvm.check(KVM_CAP_MAX_VCPUS);
    if (most > 0 && cpus > static_cast<unsigned>(most))
        return std::unexpected<Error>{Error{Errc::cpus_invalid,
                                            format("%u CPUs asked for, but this KVM has at most %d", cpus, most),
                                            "ask for fewer CPUs", "/machine-config/vcpu_count", 0}};
    if (!config.machine.cpuid.empty()) {
        auto request = cpuid_request(config, kvm);
        request.tsc_khz = 1; // any: its leaf is there then
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
