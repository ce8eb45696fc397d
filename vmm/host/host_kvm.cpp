// SPDX-License-Identifier: Apache-2.0
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <linux/kvm.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#include "vmm/base/error.hpp"
#include "vmm/base/os.hpp"
#include "vmm/host/host_report.hpp"
#include "vmm/host/host_speed.hpp"
#include "vmm/kvm/access.hpp"

namespace inox {
namespace {

struct Wanted {
    int number;
    KvmCapability capability;
};

constexpr Wanted wanted[] = {
    {KVM_CAP_USER_MEMORY, {"USER_MEMORY", "guest memory from user space", true, 0}},
    {KVM_CAP_IRQCHIP, {"IRQCHIP", "interrupt controllers in the kernel", true, 0}},
    {KVM_CAP_IRQ_ROUTING, {"IRQ_ROUTING", "routes from interrupt numbers to controllers and MSIs", true, 0}},
    {KVM_CAP_IRQFD, {"IRQFD", "interrupts without an exit to inox", true, 0}},
    {KVM_CAP_IOEVENTFD, {"IOEVENTFD", "device doorbells without an exit to inox", true, 0}},
    {KVM_CAP_SIGNAL_MSI, {"SIGNAL_MSI", "message-signalled interrupts", true, 0}},
    {KVM_CAP_IMMEDIATE_EXIT, {"IMMEDIATE_EXIT", "a pause or stop that always returns", true, 0}},
    {KVM_CAP_TSC_DEADLINE_TIMER, {"TSC_DEADLINE_TIMER", "the cheap timer of Linux guests", false, 0}},
    {KVM_CAP_GET_TSC_KHZ, {"GET_TSC_KHZ", "the guest's clock rate without calibration", false, 0}},
    {KVM_CAP_IRQFD_RESAMPLE, {"IRQFD_RESAMPLE", "level-triggered interrupts of assigned devices", false, 0}},
    {KVM_CAP_IOEVENTFD_ANY_LENGTH, {"IOEVENTFD_ANY_LENGTH", "doorbells of any width", false, 0}},
    {KVM_CAP_READONLY_MEM, {"READONLY_MEM", "read-only memory in the guest", false, 0}},
    {KVM_CAP_DEVICE_CTRL, {"DEVICE_CTRL", "telling KVM about assigned devices", false, 0}},
    {KVM_CAP_EXIT_ON_EMULATION_FAILURE,
     {"EXIT_ON_EMULATION_FAILURE", "the bytes of an instruction KVM cannot emulate", false, 0}},
    {KVM_CAP_X86_USER_SPACE_MSR, {"X86_USER_SPACE_MSR", "model-specific registers handled by inox", false, 0}},
    {KVM_CAP_X86_MSR_FILTER, {"X86_MSR_FILTER", "choosing which registers those are", false, 0}},
    {KVM_CAP_X2APIC_API, {"X2APIC_API", "more than 255 interrupt targets", false, 0}},
};

void explain_open_failure(KvmReport& report, const std::string& root, int error) {
    const std::string path = root + "/dev/kvm";
    struct stat status {};
    report.present = ::stat(path.c_str(), &status) == 0;
    report.problem = format("/dev/kvm cannot be opened: %s", std::strerror(error));
    if (!report.present) {
        report.problem = "/dev/kvm does not exist";
        report.todo =
            "load a KVM module (modprobe kvm_intel or kvm_amd), and switch virtualisation on in the firmware, "
            "or nested virtualisation in the machine around this one";
    } else if (error == EACCES || error == EPERM) {
        report.todo = kvm_denied_hint(root);
    } else {
        report.todo = "see dmesg for what KVM says about this CPU";
    }
}

void query(KvmReport& report, int kvm) {
    report.api_version = ::ioctl(kvm, KVM_GET_API_VERSION, 0);
    if (report.api_version != KVM_API_VERSION) {
        report.problem = format("/dev/kvm is of API version %d, not %d", report.api_version, KVM_API_VERSION);
        report.todo = "use a Linux kernel";
        return;
    }
    report.usable = true;
    for (const auto& one : wanted) {
        report.capabilities.push_back(one.capability);
        auto& value = report.capabilities.back().value;
        value = std::max(::ioctl(kvm, KVM_CHECK_EXTENSION, one.number), 0);
        if (value > 0 || !one.capability.required)
            continue;
        report.usable = false;
        report.problem = std::string{"this KVM lacks "} + one.capability.name + " (" + one.capability.purpose + ")";
        report.todo = "use a newer host kernel";
    }
    report.recommended_cpus = std::max(::ioctl(kvm, KVM_CHECK_EXTENSION, KVM_CAP_NR_VCPUS), 0);
    report.max_cpus = std::max(::ioctl(kvm, KVM_CHECK_EXTENSION, KVM_CAP_MAX_VCPUS), report.recommended_cpus);
}

} // namespace

KvmReport inspect_kvm(const std::string& root) {
    KvmReport report;
    const UniqueFd kvm{::open((root + "/dev/kvm").c_str(), O_RDWR | O_CLOEXEC)};
    if (!kvm) {
        explain_open_failure(report, root, errno);
        return report;
    }
    report.present = true;
    query(report, kvm.get());
    if (!report.usable)
        return report;
    report.million_instructions_per_second = measure_kvm_speed(kvm.get());
    if (!report.million_instructions_per_second) {
        report.usable = false;
        report.problem = "a small test guest did not run";
        report.todo = "see dmesg for what KVM says";
    } else {
        report.interpreting = interprets(cpu_has_vmx_or_svm(), report.million_instructions_per_second);
    }
    return report;
}

} // namespace inox
