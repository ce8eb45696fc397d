// SPDX-License-Identifier: Apache-2.0
// What a start needs of the host before it makes a VM, in this order: memory, kernel and initrd, assigned devices,
// other devices (device_maker.hpp), /dev/kvm last. So whatever the operator gave is checked on a host without KVM too.
// `inox check` asks for the same in the same order. Each error has in `where` the JSON pointer of the value it is
// about.
#pragma once

#include <string_view>
#include <vector>

#include "vmm/boot/loader.hpp"
#include "vmm/config/config.hpp"
#include "vmm/kvm/vm.hpp"
#include "vmm/memory/guest_memory.hpp"

namespace inox {

/// The same; an error that has no place yet gets this one.
template <class T> Result<T> placed(Result<T> result, std::string_view where) {
    if (!result && result.error().where.empty())
        result.error().where = where;
    return result;
}

/// By the width of this CPU's addresses, as the guest's CPUID will tell it. memory_invalid, no_resource.
Result<AddressMap> plan_memory(const Config& config);
/// The same, and memory_unavailable.
Result<GuestMemory> create_memory(const Config& config);
/// The same with the contents of a snapshot's memory file, where RAM below 4 GiB ends at `hole`.
Result<GuestMemory> restore_memory(const Config& config, Gpa hole, UniqueFd image);

/// Whether restore_memory() maps the file, and does not copy it.
bool maps_image(const Config& config);

/// Kernel and initrd into guest memory; with a root, the initrd that inox makes for it. The errors of boot::load() and
/// guest_root::make_initrd().
Result<boot::Loaded> load_images(const Config& config, const GuestMemory& memory, const std::stop_token& stop = {});
/// The value that an error of boot::load() is about.
std::string_view load_place(Errc code);

/// Whether the host can give the devices to assign; nothing is opened. The errors of vfio_preflight().
Result<void> look_at_assigned(const Config& config);

/// kvm_missing, kvm_denied, kvm_unusable; cpus_invalid when this KVM has not so many; config_value for a CPUID modifier
/// of a leaf that it does not offer.
Result<Kvm> open_kvm(const Config& config);

/// Of the first vCPU, but for its frequency.
boot::CpuidRequest cpuid_request(const Config& config, const Kvm& kvm);
/// What a vCPU's CPUID says with the operator's changes; config_value where there is nothing to change.
Result<std::vector<kvm_cpuid_entry2>> guest_cpuid(const Config& config, std::vector<kvm_cpuid_entry2> supported,
                                                  const boot::CpuidRequest& request);

} // namespace inox
