// SPDX-License-Identifier: Apache-2.0
#include "vmm/instance/output_files.hpp"

#include <algorithm>
#include <filesystem>
#include <optional>
#include <string>
#include <sys/stat.h>

#include "vmm/config/config_text.hpp"

namespace inox {
namespace {

std::string whole_path(const std::string& path) {
    std::error_code error;
    auto whole = std::filesystem::weakly_canonical(path, error);
    return error ? path : whole.string();
}

/// The file that a path names at present. Two paths name the same file when these are equal.
struct Identity {
    dev_t device{};
    ino_t number{};
    std::string path{}; ///< only for a file that does not exist yet
    bool operator==(const Identity&) const = default;
};

/// nullopt: the path names nothing that could be lost.
std::optional<Identity> identity_of(const std::string& path) {
    struct stat status {};
    if (path.empty())
        return std::nullopt;
    if (::stat(path.c_str(), &status) == 0) {
        if (S_ISBLK(status.st_mode))
            return Identity{status.st_rdev, 0, {}};
        return S_ISREG(status.st_mode) ? std::optional{Identity{status.st_dev, status.st_ino, {}}} : std::nullopt;
    }
    return Identity{0, 0, whole_path(path)};
}

struct Output {
    std::string path;
    std::string where;
    bool replaced; ///< its contents are replaced; otherwise they stay and text is appended
};

} // namespace

Result<void> check_outputs_apart(const ConfigFile& file) {
    struct Taken {
        Identity identity;
        std::string what;
        bool replaced;
    };
    const auto used = used_paths(file.config);
    for (const auto& [one, where] : used)
        if (one.use == UsedPath::Use::socket && !file.api.socket.empty() &&
            whole_path(std::string{one.path}) == whole_path(file.api.socket))
            return fail_at(where, Errc::config_value, in_quotes(one.path) + " is the control API's socket, too",
                           "give each socket a path of its own");
    std::vector<Output> outputs{
        {file.log.path, "/logger/log_path", false},
        {file.run.boot_timeline, "/inox/boot_timeline", true},
        {file.metrics ? file.metrics->path : std::string{}, "/metrics/metrics_path", false},
        {file.serial.path, "/serial/serial_out_path", false},
        {file.run.serial_log, "/inox/serial_log", true},
    };
    for (const auto& [one, where] : used)
        if (one.use == UsedPath::Use::output)
            outputs.push_back({std::string{one.path}, where, false});
    if (std::ranges::all_of(outputs, [](const Output& one) { return one.path.empty(); }))
        return {}; // a start without outputs opens no file for this check
    std::vector<Taken> taken;
    const auto take_input = [&](const std::string& path, const char* what) {
        if (auto identity = identity_of(path); identity && identity->path.empty())
            taken.push_back({std::move(*identity), what, true});
    };
    take_input(file.config.boot.kernel, "the kernel, which writing would destroy");
    take_input(file.config.boot.initrd, "the initrd, which writing would destroy");
    for (const auto& [one, where] : used)
        if (one.use == UsedPath::Use::image)
            take_input(std::string{one.path}, "a disk's image, which writing would destroy");
    for (const auto& output : outputs) {
        auto identity = identity_of(output.path);
        if (!identity)
            continue;
        for (const auto& one : taken)
            if (one.identity == *identity && (one.replaced || output.replaced))
                return fail_at(output.where, Errc::output_unwritable, in_quotes(output.path) + " is " + one.what,
                               "name a file of its own");
        taken.push_back({std::move(*identity), "the file of another output", output.replaced});
    }
    return {};
}

} // namespace inox
