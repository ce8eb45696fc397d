// SPDX-License-Identifier: Apache-2.0
// The options of `inox jail`: those of Firecracker's jailer, with its meaning and texts, and some of inox's own.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "vmm/base/error.hpp"

namespace inox::jail {

/// "FILE=VALUE": what is written to a file of the control group.
struct CgroupValue {
    std::string file;  ///< "memory.max"
    std::string value; ///< not empty

    /// "memory"
    [[nodiscard]] std::string controller() const { return file.substr(0, file.find('.')); }
};

/// A resource with its limit, soft and hard.
struct Limit {
    int resource; ///< RLIMIT_...
    std::uint64_t value;
};

struct Options {
    static constexpr std::uint32_t nobody = 65534;

    std::string id{};
    std::string exec_file{}; ///< without symbolic links; empty: the words are those of `inox run`
    std::uint32_t uid{nobody};
    std::uint32_t gid{nobody};
    std::string chroot_base{}; ///< without symbolic links; empty without an exec_file
    std::string netns{};       ///< a path, or "new"; empty: the network stays
    bool daemonize{false};
    bool new_pid_ns{false}; ///< always true without an exec_file
    bool user_ns{false};
    bool clean_up{false}; ///< what the jail made goes away when the program ends
    unsigned cgroup_version{1};
    std::string parent_cgroup{}; ///< below the mount point
    bool wants_cgroup{false};    ///< one of the options about control groups was given
    std::vector<CgroupValue> cgroups{};
    std::vector<Limit> limits{};        ///< each resource once
    std::vector<std::string> devices{}; ///< device files to be made in the jail
    std::vector<std::string> binds{};   ///< "PATH" or "PATH:ro"
    std::string pid_file{};             ///< only without an exec_file
    std::vector<std::string> words{};   ///< behind "--"

    /// The last part of exec_file.
    [[nodiscard]] std::string exec_name() const { return exec_file.substr(exec_file.rfind('/') + 1); }
};

/// Options as given, by their names without dashes.
class Given {
public:
    /// bad_option with the jailer's text.
    static Result<Given> parse(std::span<const char* const> arguments);
    [[nodiscard]] bool has(std::string_view name) const { return values_.contains(name); }
    /// Empty when absent.
    [[nodiscard]] const std::vector<std::string>& all(std::string_view name) const;
    /// The only value, or `otherwise`.
    [[nodiscard]] std::string value(std::string_view name, std::string otherwise = {}) const;
    [[nodiscard]] const std::vector<std::string>& words() const { return words_; }
    /// The words are `run` and its options.
    [[nodiscard]] bool is_run() const { return !words_.empty() && words_.front() == "run" && !has("exec-file"); }

private:
    std::map<std::string, std::vector<std::string>, std::less<>> values_{};
    std::vector<std::string> words_{};
};

/// Checks every value; looks at the paths, and makes nothing. `id`: for `inox run`, where no option names one.
Result<Options> check(const Given& given, std::string id);

/// Text of --help.
std::string help();

} // namespace inox::jail
