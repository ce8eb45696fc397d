// SPDX-License-Identifier: Apache-2.0
#include "vmm/machine/config_check.hpp"

#include <algorithm>
#include <iterator>
#include <linux/kvm.h>
#include <nlohmann/json.hpp>

#include "vmm/base/os.hpp"
#include "vmm/boot/image.hpp"
#include "vmm/boot/loader.hpp"
#include "vmm/kvm/vm.hpp"
#include "vmm/machine/config_text.hpp"
#include "vmm/machine/device_preflight.hpp"
#include "vmm/machine/host_report.hpp"
#include "vmm/machine/platform.hpp"
#include "vmm/machine/vfio_preflight.hpp"

namespace vmm {
namespace {

constexpr auto cpus_key = "/machine-config/vcpu_count";
constexpr auto memory_key = "/machine-config/mem_size_mib";
constexpr auto huge_pages_key = "/machine-config/huge_pages";
constexpr auto kernel_key = "/boot-source/kernel_image_path";
constexpr auto initrd_key = "/boot-source/initrd_path";

class Preflight {
public:
    Preflight(const ConfigFile& file, std::span<const Error> known) : file_{file}, known_{known} {
        // Its size is not known then; the other checks go on with one that fits every host.
        if (!memory_known())
            file_.config.machine.memory = MachineConfig{}.memory;
    }

    std::vector<Error> run() {
        check_kernel();
        if (memory_known())
            check_memory();
        check_kvm();
        auto vfio = vfio_preflight(file_.config, {});
        vfio_ = std::move(vfio.needs);
        std::ranges::move(vfio.problems, std::back_inserter(problems_));
        std::ranges::move(device_preflight(file_.config, known_), std::back_inserter(problems_));
        check_file(file_.run.serial_log, "/inox/serial_log");
        check_file(file_.run.boot_timeline, "/inox/boot_timeline");
        check_file(file_.log.path, "/logger/log_path");
        check_file(file_.serial.path, "/serial/serial_out_path");
        if (file_.metrics)
            check_file(file_.metrics->path, "/metrics/metrics_path");
        // Of one value the reader's problem says enough.
        std::erase_if(problems_, [&](const Error& one) { return !one.where.empty() && is_known(one.where); });
        return std::move(problems_);
    }

    /// After run().
    [[nodiscard]] const VfioNeeds& vfio() const { return vfio_; }

private:
    [[nodiscard]] bool is_known(std::string_view where) const {
        return std::ranges::find(known_, where, &Error::where) != known_.end();
    }
    [[nodiscard]] bool memory_known() const { return !is_known(memory_key) && !is_known(huge_pages_key); }

    void add(Error error, const char* where) {
        if (error.where.empty())
            error.where = where;
        problems_.push_back(std::move(error));
    }

    /// Loads into memory of the guest's size, of which only what is written exists: so it sees all that a start sees.
    void check_kernel() {
        const auto& boot = file_.config.boot;
        const auto before = problems_.size();
        if (!boot.kernel.empty())
            if (auto kernel = boot::Image::open(boot.kernel, boot::Image::kernel); !kernel)
                add(std::move(kernel).error(), kernel_key);
        if (!boot.initrd.empty())
            if (auto initrd = boot::Image::open(boot.initrd, boot::Image::initrd); !initrd)
                add(std::move(initrd).error(), initrd_key);
        if (problems_.size() != before || !memory_known())
            return;
        const auto memory = GuestMemory::create(machine_.memory, HugePages::none);
        if (!memory)
            return add(memory.error(), memory_key);
        if (auto loaded = boot::load({boot.kernel, boot.initrd, kernel_cmdline(file_.config)}, *memory); !loaded)
            add(loaded.error(), place_of(loaded.error().code));
    }

    static const char* place_of(Errc code) {
        if (code == Errc::initrd_missing || code == Errc::initrd_does_not_fit)
            return initrd_key;
        return code == Errc::cmdline_too_long ? "/boot-source/boot_args" : kernel_key;
    }

    void check_memory() {
        const auto host = inspect_memory({});
        if (machine_.huge_pages == HugePages::two_mib)
            return check_huge_pages(host);
        if (host.available != 0 && machine_.memory > host.available)
            add({Errc::memory_unavailable,
                 size_text(machine_.memory) + " of memory asked for, but the host has only " +
                     size_text(align_down(host.available, MiB)) + " available",
                 "give the guest less memory, or free some on the host",
                 {},
                 0},
                memory_key);
    }

    void check_huge_pages(const MemoryReport& host) {
        const std::uint64_t needed = machine_.memory / (2 * MiB);
        std::uint64_t free = 0;
        for (const auto& pages : host.huge_pages)
            if (pages.size_kib == 2 * MiB / KiB)
                free = pages.free;
        if (needed > free)
            add({Errc::memory_unavailable,
                 format("%llu huge pages of 2 MiB needed, but only %llu are free",
                        static_cast<unsigned long long>(needed), static_cast<unsigned long long>(free)),
                 format("sudo sysctl vm.nr_hugepages=%llu", static_cast<unsigned long long>(needed)),
                 {},
                 0},
                huge_pages_key);
    }

    void check_kvm() {
        const auto kvm = Kvm::open();
        if (!kvm)
            return add(kvm.error(), "");
        const int most = kvm->check(KVM_CAP_MAX_VCPUS);
        if (most > 0 && machine_.cpus > static_cast<unsigned>(most))
            add({Errc::cpus_invalid,
                 format("%u CPUs asked for, but this KVM has at most %d", machine_.cpus, most),
                 "ask for fewer CPUs",
                 {},
                 0},
                cpus_key);
    }

    void check_file(const std::string& path, const char* where) {
        if (path.empty())
            return;
        if (auto checked = check_output(path); !checked)
            add(std::move(checked).error(), where);
    }

    ConfigFile file_;
    std::span<const Error> known_;
    const MachineConfig& machine_{file_.config.machine};
    std::vector<Error> problems_{};
    VfioNeeds vfio_{};
};

} // namespace

VfioNeeds preflight(ParsedConfig& parsed) {
    const auto nothing_read = [](const Error& one) {
        return one.code == Errc::config_unreadable || (one.code == Errc::config_syntax && one.where.empty());
    };
    if (std::ranges::any_of(parsed.problems, nothing_read))
        return {};
    Preflight check{parsed.file, parsed.problems};
    std::ranges::move(check.run(), std::back_inserter(parsed.problems));
    return check.vfio();
}

namespace {

nlohmann::ordered_json vfio_json(const VfioNeeds& needs) {
    using Json = nlohmann::ordered_json;
    Json devices = Json::array();
    for (const auto& one : needs.devices)
        devices.push_back({{"host", one.host},
                           {"group", one.group ? Json(*one.group) : Json(nullptr)},
                           {"backend", devices::vfio::backend_name(one.backend)},
                           {"bars", one.bars},
                           {"bar_bytes", one.bar_bytes},
                           {"vectors", one.vectors}});
    return {{"devices", std::move(devices)},
            {"groups", needs.groups},
            {"locked_bytes", needs.locked},
            {"lock_limit_bytes", needs.lock_limit ? Json(*needs.lock_limit) : Json(nullptr)},
            {"bar_bytes_32", needs.bars_32},
            {"bar_bytes_64", needs.bars_64},
            {"io_bars", needs.io_bars},
            {"vectors", needs.vectors}};
}

} // namespace

std::string check_json(const std::string& path, const ParsedConfig& parsed, const VfioNeeds& vfio) {
    using Json = nlohmann::ordered_json;
    Json out{{"file", path},
             {"ok", parsed.problems.empty()},
             {"problems", Json::array()},
             {"ignored", parsed.ignored},
             {"vfio", vfio_json(vfio)}};
    for (const auto& problem : parsed.problems)
        out["problems"].push_back({{"code", error_name(problem.code)},
                                   {"exit_code", exit_code(problem.code)},
                                   {"where", problem.where},
                                   {"what", problem.message()},
                                   {"hint", problem.hint}});
    return out.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
}

} // namespace vmm
