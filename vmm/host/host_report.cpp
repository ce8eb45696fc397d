// SPDX-License-Identifier: Apache-2.0
#include "vmm/host/host_report.hpp"

#include <cpuid.h>
#include <cstdlib>
#include <sys/resource.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "vmm/base/host_files.hpp"
#include "vmm/base/soft_limit.hpp"

namespace inox {
namespace {

/// The word in brackets of "always [advise] never".
std::string chosen(const std::string& text) {
    const auto open = text.find('[');
    const auto close = text.find(']', open);
    return open == text.npos || close == text.npos ? std::string{} : text.substr(open + 1, close - open - 1);
}

bool has_capability(const std::string& root, unsigned number) {
    const std::string status = host::read_text(root + "/proc/self/status");
    const auto at = status.find("CapEff:");
    return at != status.npos && (std::strtoull(status.c_str() + at + 7, nullptr, 16) >> number & 1) != 0;
}

NetworkReport inspect_network(const std::string& root) {
    constexpr unsigned cap_net_admin = 12;
    return {host::exists(root + "/dev/net/tun"), host::opens(root + "/dev/net/tun"),
            has_capability(root, cap_net_admin)};
}

EnqcmdReport inspect_enqcmd(const std::string& root) {
    constexpr unsigned movdiri = 27;
    constexpr unsigned movdir64b = 28;
    constexpr unsigned enqcmd = 29;
    unsigned eax{};
    unsigned ebx{};
    unsigned ecx{};
    unsigned edx{};
    EnqcmdReport report;
    if (__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) != 0) {
        report.enqcmd = (ecx >> enqcmd & 1) != 0;
        report.movdir64b = (ecx >> movdir64b & 1) != 0;
        report.movdiri = (ecx >> movdiri & 1) != 0;
    }
    report.work_queues = static_cast<unsigned>(host::list(root + "/dev/dsa").size());
    return report;
}

} // namespace

MemoryReport inspect_memory(const std::string& root) {
    MemoryReport report;
    report.total = host::meminfo(root, "MemTotal");
    report.available = host::meminfo(root, "MemAvailable");
    const std::string directory = root + "/sys/kernel/mm/hugepages";
    for (const auto& name : host::list(directory)) {
        static constexpr std::string_view prefix = "hugepages-"; // hugepages-2048kB
        const std::string one = directory + "/" + name;
        if (name.starts_with(prefix))
            report.huge_pages.push_back({std::strtoull(name.c_str() + prefix.size(), nullptr, 10),
                                         host::read_number(one + "/nr_hugepages"),
                                         host::read_number(one + "/free_hugepages")});
    }
    const std::string policies = root + "/sys/kernel/mm/transparent_hugepage";
    report.transparent = chosen(host::read_text(policies + "/enabled"));
    report.transparent_shared = chosen(host::read_text(policies + "/shmem_enabled"));
    report.locked_limit = soft_limit(RLIMIT_MEMLOCK);
    return report;
}

HostReport inspect_host(const std::string& root) {
    HostReport report;
    utsname name{};
    if (::uname(&name) == 0)
        report.kernel = name.release; // NOLINT: a C array by definition
    report.cpus = static_cast<unsigned>(std::max(::sysconf(_SC_NPROCESSORS_ONLN), 0L));
    report.kvm = inspect_kvm(root);
    report.iommu = inspect_iommu(root);
    report.enqcmd = inspect_enqcmd(root);
    report.memory = inspect_memory(root);
    report.network = inspect_network(root);
    return report;
}

} // namespace inox
