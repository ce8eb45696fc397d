// SPDX-License-Identifier: Apache-2.0
#include "vmm/instance/config_check.hpp"

#include <algorithm>
#include <iterator>
#include <nlohmann/json.hpp>

#include "devices/vfio/kernel.hpp"
#include "vmm/base/os.hpp"
#include "vmm/boot/image.hpp"
#include "vmm/boot/loader.hpp"
#include "vmm/config/config_text.hpp"
#include "vmm/guest_root/guest_root.hpp"
#include "vmm/host/device_preflight.hpp"
#include "vmm/host/host_report.hpp"
#include "vmm/instance/core_dump.hpp"
#include "vmm/instance/output_files.hpp"
#include "vmm/instance/verdict/symbols.hpp"
#include "vmm/machine/platform.hpp"
#include "vmm/machine/preparation.hpp"
#include "vmm/memory/memory_limits.hpp"

namespace inox {
namespace {

constexpr auto memory_key = "/machine-config/mem_size_mib";
constexpr auto huge_pages_key = "/machine-config/huge_pages";

/// Checks in the order of a start, so that the problem that a start would report comes first.
class Preflight {
public:
    Preflight(const ConfigFile& file, std::span<const Error> known) : file_{file}, known_{known} {
        // A size that could not be read is unknown here; the other checks go on with one that fits every host.
        if (!memory_known())
            file_.config.machine.memory = MachineConfig{}.memory;
    }

    CheckFindings run(std::vector<Error> of_api) {
        if (auto apart = check_outputs_apart(file_); !apart)
            problems_.push_back(std::move(apart).error());
        if (auto added = guest_root::add_device(file_.config); !added) {
            problems_.push_back(std::move(added).error());
            file_.config.root.reset();
        }
        check_file(file_.log.path, "/logger/log_path");
        check_file(file_.run.boot_timeline, "/inox/boot_timeline");
        check_file(file_.run.result, "/inox/result");
        check_file(file_.run.exits, "/inox/exits");
        if (const auto& path = file_.run.dump_on_panic; !path.empty())
            check(CoreDump::check(path), "/inox/dump_on_panic");
        take(std::move(of_api));
        if (const auto& path = file_.run.symbols; !path.empty())
            check(Symbols::check(path), "/inox/symbols");
        if (file_.metrics)
            check_file(file_.metrics->path, "/metrics/metrics_path");
        check_file(file_.serial.path, "/serial/serial_out_path");
        check_file(file_.run.serial_log, "/inox/serial_log");
        for (const auto& [one, where] : used_paths(file_.config))
            if (one.use == UsedPath::Use::output)
                check_file(std::string{one.path}, where);
        check_memory_and_kernel();
        auto vfio = vfio_preflight(file_.config, {.kernel = &devices::vfio::Kernel::host()});
        findings_.vfio = std::move(vfio.needs);
        take(std::move(vfio.problems));
        take(device_preflight(file_.config, known_));
        if (const auto kvm = open_kvm(file_.config); !kvm)
            problems_.push_back(kvm.error());
        // Where reading a value already failed, its problem is enough.
        std::erase_if(problems_, [&](const Error& one) { return !one.where.empty() && is_known(one.where); });
        return std::move(findings_);
    }

    /// To be called after run().
    [[nodiscard]] const std::vector<Error>& problems() const { return problems_; }

private:
    [[nodiscard]] bool is_known(std::string_view where) const {
        return std::ranges::find(known_, where, &Error::where) != known_.end();
    }
    [[nodiscard]] bool memory_known() const { return !is_known(memory_key) && !is_known(huge_pages_key); }

    void take(std::vector<Error> some) { std::ranges::move(some, std::back_inserter(problems_)); }
    void add(Error error, std::string_view where) {
        error.where = where;
        problems_.push_back(std::move(error));
    }

    /// Loads the kernel into memory of the guest's size, so it finds what a start would; only written pages exist.
    void check_memory_and_kernel() {
        if (memory_known())
            check_available();
        const auto memory = create_memory(file_.config);
        if (!memory && memory_known())
            problems_.push_back(memory.error());
        const auto& boot = file_.config.boot;
        const auto before = problems_.size();
        if (!boot.kernel.empty())
            if (auto kernel = boot::Image::open(boot.kernel, boot::Image::kernel); !kernel)
                add(std::move(kernel).error(), load_place(Errc::kernel_missing));
        if (!boot.initrd.empty())
            if (auto initrd = boot::Image::open(boot.initrd, boot::Image::initrd); !initrd)
                add(std::move(initrd).error(), load_place(Errc::initrd_missing));
        if (problems_.size() != before || !memory || !memory_known())
            return;
        if (auto loaded = load_images(file_.config, *memory); !loaded)
            problems_.push_back(std::move(loaded).error());
    }

    /// A guest may have more memory than its host, as long as it does not use all of it.
    void check_available() {
        if (machine_.huge_pages == HugePages::two_mib)
            return;
        if (const auto limit = group_limit({}, machine_.huge_pages);
            limit && machine_.memory > limit->limit - std::min(limit->used, limit->limit))
            findings_.notes.push_back(size_text(machine_.memory) + " of memory asked for, but " + limit->file +
                                      " allows " + size_text(align_down(limit->limit, MiB)) + " and " +
                                      size_text(align_down(limit->used, MiB)) +
                                      " are in use: a guest that uses more is killed");
        const auto host = inspect_memory({});
        if (host.available != 0 && machine_.memory > host.available)
            findings_.notes.push_back(size_text(machine_.memory) + " of memory asked for, but the host has only " +
                                      size_text(align_down(host.available, MiB)) +
                                      " available: a guest that uses all of it is killed");
    }

    void check_file(const std::string& path, std::string_view where) {
        if (!path.empty())
            check(check_output(path), where);
    }
    void check(Result<void> checked, std::string_view where) {
        if (!checked)
            add(std::move(checked).error(), where);
    }

    ConfigFile file_;
    std::span<const Error> known_;
    const MachineConfig& machine_{file_.config.machine};
    std::vector<Error> problems_{};
    CheckFindings findings_{};
};

} // namespace

bool nothing_read(const ParsedConfig& parsed) {
    return std::ranges::any_of(parsed.problems, [](const Error& one) {
        return one.code == Errc::config_unreadable || (one.code == Errc::config_syntax && one.where.empty());
    });
}

CheckFindings preflight(ParsedConfig& parsed, std::vector<Error> of_api) {
    if (nothing_read(parsed))
        return {};
    Preflight check{parsed.file, parsed.problems};
    auto findings = check.run(std::move(of_api));
    std::ranges::copy(check.problems(), std::back_inserter(parsed.problems));
    return findings;
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

std::string check_json(const std::string& path, const ParsedConfig& parsed, const CheckFindings& findings) {
    using Json = nlohmann::ordered_json;
    Json out{{"file", path},
             {"ok", parsed.problems.empty()},
             {"problems", Json::array()},
             {"ignored", parsed.ignored},
             {"notes", findings.notes},
             {"vfio", vfio_json(findings.vfio)}};
    for (const auto& problem : parsed.problems)
        out["problems"].push_back({{"code", error_name(problem.code)},
                                   {"exit_code", exit_code(problem.code)},
                                   {"where", problem.where},
                                   {"what", problem.message()},
                                   {"hint", problem.hint}});
    return out.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
}

} // namespace inox
