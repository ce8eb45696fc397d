// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cstdio>

#include "iommu/pasid/pasid_table.hpp"
#include "vmm/base/bytes.hpp"
#include "vmm/base/error.hpp"
#include "vmm/config/config_text.hpp"
#include "vmm/host/host_report.hpp"

namespace inox {
namespace {

using State = HostFinding::State;

std::string mib(std::uint64_t bytes) { return size_text(align_down(bytes, MiB)); }

void kvm_speed(std::vector<HostFinding>& out, const KvmReport& kvm) {
    const double speed = *kvm.million_instructions_per_second;
    if (kvm.interpreting)
        out.push_back(
            {"KVM", "speed", State::limited,
             format("%.2f million guest instructions a second: this KVM interprets guest code", speed),
             "small guests run; Linux takes minutes or stops at an instruction KVM cannot emulate. Use a host "
             "with hardware virtualisation, or tools/lab"});
    else
        out.push_back({"KVM", "speed", State::yes,
                       format("%.0f million guest instructions a second in a short loop: runs on the CPU", speed)});
}

void kvm_findings(std::vector<HostFinding>& out, const KvmReport& kvm) {
    if (!kvm.usable)
        out.push_back({"KVM", "/dev/kvm", State::no, kvm.problem, kvm.todo});
    else
        out.push_back({"KVM", "/dev/kvm", State::yes,
                       format("API %d, up to %d CPUs a guest (%d advised)", kvm.api_version, kvm.max_cpus,
                              kvm.recommended_cpus)});
    if (kvm.million_instructions_per_second)
        kvm_speed(out, kvm);
    const auto before = out.size();
    for (const auto& one : kvm.capabilities)
        if (one.value == 0)
            out.push_back({"KVM", one.name, one.required ? State::no : State::limited,
                           std::string{"missing: "} + one.purpose, "a newer host kernel may have it"});
    if (!kvm.capabilities.empty() && out.size() == before)
        out.push_back({"KVM", "capabilities", State::yes, format("all %zu that inox knows", kvm.capabilities.size())});
}

void vfio_findings(std::vector<HostFinding>& out, const IommuReport& iommu) {
    if (iommu.groups.empty())
        out.push_back(
            {"Devices", "IOMMU", State::no, "the kernel shows no IOMMU group",
             "switch the IOMMU on in the firmware, and with intel_iommu=on on the host's kernel command line"});
    else
        out.push_back({"Devices", "IOMMU", State::yes,
                       format("%zu groups behind %zu units", iommu.groups.size(), iommu.units.size())});
    if (!iommu.container)
        out.push_back({"Devices", "VFIO", State::no, "/dev/vfio/vfio does not exist", "sudo modprobe vfio-pci"});
    else if (!iommu.container_opens)
        out.push_back({"Devices", "VFIO", State::no, "/dev/vfio/vfio is there, but this user may not open it",
                       "run as root, or give this user /dev/vfio/vfio and the group's file beside it"});
    else if (!iommu.vfio_pci)
        out.push_back(
            {"Devices", "VFIO", State::limited, "the vfio-pci driver is not loaded", "sudo modprobe vfio-pci"});
    else
        out.push_back({"Devices", "VFIO", State::yes, "container and vfio-pci driver are there"});
    if (iommu.iommufd)
        out.push_back({"Devices", "iommufd", State::yes, format("/dev/iommu, %u device files", iommu.device_files)});
    else
        out.push_back({"Devices", "iommufd", State::no, "/dev/iommu does not exist",
                       "optional: Linux 6.2 or newer, sudo modprobe iommufd"});
}

/// Whether the host's IOMMUs have what devices/vfio/pasid_attach.hpp needs.
HostFinding nested_pasids(const HostReport& host) {
    constexpr const char* section = "PASID";
    constexpr const char* subject = "assigned devices";
    const auto unit = std::ranges::find_if(host.iommu.units,
                                           [](const IommuUnit& each) { return each.nesting && each.pasid_bits != 0; });
    if (unit == host.iommu.units.end())
        return {section, subject, State::no, "no IOMMU unit walks a guest's page tables for a PASID",
                "needs VT-d with scalable mode, nested translation and PASIDs"};
    unsigned major = 0, minor = 0;
    const bool known = std::sscanf(host.kernel.c_str(), "%u.%u", &major, &minor) == 2;
    if (!host.iommu.iommufd || !known || major < 6 || (major == 6 && minor < 15))
        return {section, subject, State::no, "this kernel does not attach page tables to PASIDs of VFIO devices",
                "Linux 6.15 or newer, sudo modprobe iommufd"};
    return {section, subject, State::yes, format("guests' page tables nest on %s", unit->name.c_str())};
}

void pasid_findings(std::vector<HostFinding>& out, const HostReport& host) {
    const auto unit = std::ranges::max_element(host.iommu.units, {}, &IommuUnit::pasid_bits);
    if (unit == host.iommu.units.end() || unit->pasid_bits == 0)
        out.push_back({"PASID", "PASID", State::no,
                       host.iommu.units.empty() ? "no IOMMU, so no PASIDs" : "no IOMMU unit here has PASIDs",
                       "needs an IOMMU with PASIDs: Intel in scalable mode (intel_iommu=on,sm_on), or AMD with guest "
                       "translation"});
    else
        out.push_back({"PASID", "PASID", State::yes, format("%u bits (%s)", unit->pasid_bits, unit->name.c_str())});
    const auto& cpu = host.enqcmd;
    if (cpu.enqcmd)
        out.push_back(
            {"PASID", "ENQCMD", State::yes, format("the CPU has it; %u work queues in /dev/dsa", cpu.work_queues)});
    else
        out.push_back({"PASID", "ENQCMD", State::no, "the CPU does not have the instruction",
                       "Intel servers from the fourth Xeon Scalable generation have it"});
    out.push_back({"PASID", "translation table", State::no, iommu::no_kernel_translation,
                   "nothing to do: emulated devices have PASIDs on every host"});
    out.push_back(nested_pasids(host));
}

void huge_page_findings(std::vector<HostFinding>& out, const MemoryReport& memory) {
    const auto two_mib = std::ranges::find(memory.huge_pages, 2048U, &HugePageReport::size_kib);
    if (two_mib == memory.huge_pages.end() || two_mib->total == 0)
        out.push_back({"Memory", "2M pages", State::no, "none are reserved",
                       "for --huge-pages 2M and a guest of N MiB: sudo sysctl vm.nr_hugepages=N/2"});
    else
        out.push_back({"Memory", "2M pages", two_mib->free == 0 ? State::limited : State::yes,
                       format("%llu of %llu free", static_cast<unsigned long long>(two_mib->free),
                              static_cast<unsigned long long>(two_mib->total)),
                       two_mib->free == 0 ? "sudo sysctl vm.nr_hugepages=... for more" : ""});
    const auto& policy = memory.transparent;
    if (policy.empty())
        return out.push_back({"Memory", "transparent", State::no, "transparent huge pages: not in this kernel"});
    const bool given = policy == "always" || policy == "madvise";
    out.push_back({"Memory", "transparent", given ? State::yes : State::no,
                   "transparent huge pages: " + policy + ", with --share: " + memory.transparent_shared,
                   given ? "" : "echo madvise | sudo tee /sys/kernel/mm/transparent_hugepage/enabled"});
}

void memory_findings(std::vector<HostFinding>& out, const MemoryReport& memory) {
    out.push_back({"Memory", "memory", State::yes, mib(memory.available) + " available of " + mib(memory.total)});
    huge_page_findings(out, memory);
    if (!memory.locked_limit)
        out.push_back({"Memory", "locked memory", State::yes, "no limit"});
    else
        out.push_back({"Memory", "locked memory", State::limited, "at most " + size_text(*memory.locked_limit),
                       "an assigned device locks all guest memory: raise it with ulimit -l or LimitMEMLOCK="});
}

void network_findings(std::vector<HostFinding>& out, const NetworkReport& network) {
    if (!network.tun)
        out.push_back({"Network", "TUN", State::no, "/dev/net/tun does not exist", "sudo modprobe tun"});
    else if (!network.tun_opens)
        out.push_back({"Network", "TUN", State::no, "this user may not open /dev/net/tun",
                       "run as root, or sudo chmod 666 /dev/net/tun"});
    else if (!network.net_admin)
        out.push_back({"Network", "TUN", State::limited, "may use interfaces that exist, not create them",
                       "sudo ip tuntap add tap0 mode tap user $USER"});
    else
        out.push_back({"Network", "TUN", State::yes, "may create and use interfaces"});
}

} // namespace

std::vector<HostFinding> host_findings(const HostReport& report) {
    std::vector<HostFinding> out;
    kvm_findings(out, report.kvm);
    memory_findings(out, report.memory);
    network_findings(out, report.network);
    vfio_findings(out, report.iommu);
    pasid_findings(out, report);
    return out;
}

} // namespace inox
