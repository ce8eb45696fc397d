// SPDX-License-Identifier: Apache-2.0
// A kernel's modules in a folder of the host: an installed one with modules.dep, or a build tree with modules.order.
#pragma once

#include <cstddef>
#include <map>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "vmm/base/error.hpp"

namespace inox::guest_root {

/// "virtio_blk" of "kernel/drivers/block/virtio-blk.ko.xz": '-' and '_' are the same in a module's name.
std::string module_name(std::string_view path);

class ModuleTree {
public:
    struct Module {
        std::string name{};
        std::vector<std::byte> bytes{}; ///< unpacked
    };
    /// A module that is wanted; `required`: a machine without it cannot find its root.
    struct Wanted {
        std::string_view name{};
        bool required{false};
    };

    /// Reads the folder's lists. modules_missing when it has none, or when they are larger than any kernel's.
    static Result<ModuleTree> open(const std::string& folder);
    /// Whether the folder has such lists.
    static bool is_one(const std::string& folder);

    /// What must be loaded for these, in this order: each behind what it needs. Names that the kernel has built in are
    /// left out, and so are those that it does not have. modules_missing: one that is required is neither built in nor
    /// there, a file cannot be read, or a module is for another kernel than `release` (empty: any).
    [[nodiscard]] Result<std::vector<Module>> load(std::span<const Wanted> wanted, const std::string& release) const;
    /// The same as paths, without reading modules; not for a build tree, where only modules know what they need.
    [[nodiscard]] Result<std::vector<std::string>> resolve(std::span<const Wanted> wanted) const;
    [[nodiscard]] const std::string& folder() const { return folder_; }

private:
    struct Entry {
        std::string path{};               ///< below the folder
        std::vector<std::string> needs{}; ///< names
    };
    class Resolver;

    void read_dep(std::string_view text);
    void read_order(std::string_view text);
    void read_builtin(std::string_view text);
    void read_softdep(std::string_view text);
    void read_alias(std::string_view text);
    void add(std::string_view path, std::string_view needs);
    [[nodiscard]] std::vector<std::string> names_for(std::string_view name) const;

    std::string folder_{};
    bool installed_{false}; ///< modules.dep says what a module needs
    std::map<std::string, Entry, std::less<>> modules_{};
    std::set<std::string, std::less<>> builtin_{};
    std::multimap<std::string, std::string, std::less<>> aliases_{}; ///< those without wildcards
};

} // namespace inox::guest_root
