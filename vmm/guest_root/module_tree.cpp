// SPDX-License-Identifier: Apache-2.0
#include "vmm/guest_root/module_tree.hpp"

#include <algorithm>
#include <cerrno>
#include <fcntl.h>
#include <optional>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/base/bytes.hpp"
#include "vmm/base/os.hpp"
#include "vmm/config/config_text.hpp"
#include "vmm/guest_root/unpack.hpp"

namespace inox::guest_root {
namespace {

constexpr std::uint64_t largest_list = 32 * MiB;
constexpr std::uint64_t largest_module = 64 * MiB;
constexpr std::size_t deepest = 64; // that one module needs another; Linux's deepest is below 10
constexpr std::size_t most_loaded = 512;

bool is_file(const std::string& path) {
    struct stat status {};
    return ::stat(path.c_str(), &status) == 0 && S_ISREG(status.st_mode);
}

/// The text of a list; empty where there is none.
Result<std::string> list_text(const std::string& path) {
    if (!is_file(path))
        return std::string{};
    const auto file = TRY(open_file(path, O_RDONLY, Errc::modules_missing));
    const auto size = TRY(file_size(file.get()));
    if (size > largest_list)
        return fail(Errc::modules_missing, in_quotes(path) + " is larger than any kernel's list of modules");
    std::string text(size, '\0');
    std::size_t there = 0;
    for (;;) {
        const auto count = ::pread(file.get(), text.data() + there, text.size() - there, static_cast<off_t>(there));
        if (count < 0 && errno == EINTR)
            continue;
        if (count < 0)
            return fail_errno(Errc::modules_missing, "cannot read " + in_quotes(path));
        there += static_cast<std::size_t>(count);
        if (count == 0 || there == text.size())
            break;
    }
    text.resize(there);
    return text;
}

template <class F> void each_line(std::string_view text, F&& work) {
    while (!text.empty()) {
        const auto end = std::min(text.find('\n'), text.size());
        work(text.substr(0, end));
        text.remove_prefix(std::min(end + 1, text.size()));
    }
}

template <class F> void each_word(std::string_view text, std::string_view separators, F&& work) {
    for (;;) {
        text.remove_prefix(std::min(text.find_first_not_of(separators), text.size()));
        if (text.empty())
            return;
        const auto end = std::min(text.find_first_of(separators), text.size());
        work(text.substr(0, end));
        text.remove_prefix(end);
    }
}

/// A path that stays in the folder.
bool is_inside(std::string_view path) {
    bool inside = !path.starts_with('/');
    each_word(path, "/", [&](std::string_view part) { inside &= part != ".."; });
    return inside;
}

std::string normal(std::string_view name) {
    std::string out{name};
    std::ranges::replace(out, '-', '_');
    return out;
}

/// A module's information is "key=value" texts that end with a zero (the section .modinfo); empty: it has no such key.
std::string_view information(std::span<const std::byte> module, std::string_view key) {
    const std::string_view text{reinterpret_cast<const char*>(module.data()), module.size()}; // NOLINT: bytes are bytes
    const auto wanted = std::string{'\0'}.append(key).append("=");
    const auto found = text.find(wanted);
    if (found == text.npos)
        return {};
    const auto value = text.substr(found + wanted.size());
    return value.substr(0, value.find('\0'));
}

} // namespace

std::string module_name(std::string_view path) {
    const auto slash = path.rfind('/');
    auto name = path.substr(slash == path.npos ? 0 : slash + 1);
    for (const std::string_view ending : {".xz", ".zst", ".gz", ".ko", ".o"})
        if (name.ends_with(ending))
            name.remove_suffix(ending.size());
    return normal(name);
}

bool ModuleTree::is_one(const std::string& folder) {
    return is_file(folder + "/modules.dep") || is_file(folder + "/modules.order");
}

Result<ModuleTree> ModuleTree::open(const std::string& folder) {
    ModuleTree tree;
    tree.folder_ = folder;
    tree.installed_ = is_file(folder + "/modules.dep");
    if (!is_one(folder))
        return fail(Errc::modules_missing, in_quotes(folder) + " has neither modules.dep nor modules.order",
                    "name the folder that `make modules_install` filled, or the kernel's build tree");
    if (tree.installed_)
        tree.read_dep(TRY(list_text(folder + "/modules.dep")));
    else
        tree.read_order(TRY(list_text(folder + "/modules.order")));
    tree.read_builtin(TRY(list_text(folder + "/modules.builtin")));
    tree.read_alias(TRY(list_text(folder + "/modules.alias")));
    tree.read_softdep(TRY(list_text(folder + "/modules.softdep")));
    return tree;
}

void ModuleTree::add(std::string_view path, std::string_view needs) {
    if (!is_inside(path))
        return;
    Entry entry{std::string{path}, {}};
    each_word(needs, " \t", [&](std::string_view one) { entry.needs.push_back(module_name(one)); });
    // The last one is to be loaded first
    std::ranges::reverse(entry.needs);
    modules_.insert_or_assign(module_name(path), std::move(entry));
}

void ModuleTree::read_dep(std::string_view text) {
    each_line(text, [&](std::string_view line) {
        if (const auto colon = line.find(':'); colon != line.npos)
            add(line.substr(0, colon), line.substr(colon + 1));
    });
}

/// Paths of modules (since 6.4 of what they are linked from), from the tree's top or with "kernel/" before them.
void ModuleTree::read_order(std::string_view text) {
    each_line(text, [&](std::string_view line) {
        if (line.starts_with("kernel/") && !is_file(folder_ + "/" + std::string{line}))
            line.remove_prefix(std::string_view{"kernel/"}.size());
        std::string path{line};
        if (path.ends_with(".o"))
            path.replace(path.size() - 1, 1, "ko");
        if (!path.empty())
            add(path, {});
    });
}

void ModuleTree::read_builtin(std::string_view text) {
    each_line(text, [&](std::string_view line) { builtin_.insert(module_name(line)); });
}

/// "softdep ext4 pre: crc32c post: x"
void ModuleTree::read_softdep(std::string_view text) {
    each_line(text, [&](std::string_view line) {
        Entry* entry = nullptr;
        bool before = false;
        std::size_t number = 0;
        each_word(line, " \t", [&](std::string_view word) {
            if (++number == 2) {
                const auto found = modules_.find(normal(word));
                entry = found == modules_.end() ? nullptr : &found->second;
            } else if (word.ends_with(':')) {
                before = word == "pre:";
            } else if (number > 2 && before && entry != nullptr) {
                entry->needs.push_back(normal(word));
            }
        });
    });
}

/// "alias crc32c crc32c_intel"; those with wildcards are for devices.
void ModuleTree::read_alias(std::string_view text) {
    each_line(text, [&](std::string_view line) {
        std::vector<std::string_view> words;
        each_word(line, " \t", [&](std::string_view word) { words.push_back(word); });
        if (words.size() == 3 && words[0] == "alias" && words[1].find_first_of("*?[:") == line.npos)
            aliases_.emplace(normal(words[1]), normal(words[2]));
    });
}

std::vector<std::string> ModuleTree::names_for(std::string_view name) const {
    const auto wanted = normal(name);
    if (modules_.contains(wanted))
        return {wanted};
    std::vector<std::string> out;
    const auto [first, last] = aliases_.equal_range(wanted);
    for (auto one = first; one != last; ++one)
        if (modules_.contains(one->second))
            out.push_back(one->second);
    if (out.empty() && modules_.contains(wanted + "_generic")) // of an algorithm, in a build tree
        out.push_back(wanted + "_generic");
    return out;
}

/// Depth first: what a module needs comes before it. A module that is on its way already is not entered again, so a
/// circle ends.
class ModuleTree::Resolver {
public:
    Resolver(const ModuleTree& tree, const std::string* release) : tree_{tree}, release_{release} {}

    Result<void> take(std::string_view name, std::size_t depth = 0) {
        for (const auto& one : tree_.names_for(name))
            TRY_VOID(take_module(one, depth));
        return {};
    }
    std::vector<Module> modules{};
    std::vector<std::string> paths{};

private:
    Result<void> take_module(const std::string& name, std::size_t depth) {
        if (!seen_.insert(name).second)
            return {};
        if (depth > deepest || seen_.size() > most_loaded)
            return fail(Errc::modules_missing, in_quotes(tree_.folder_) + " says that one module needs hundreds",
                        "run depmod");
        const auto& entry = tree_.modules_.find(name)->second;
        std::optional<Module> module;
        auto needs = entry.needs;
        if (release_ != nullptr) {
            module = TRY(read(name, entry));
            if (!tree_.installed_)
                each_word(information(module->bytes, "depends"), ",",
                          [&](std::string_view one) { needs.push_back(normal(one)); });
            if (!tree_.installed_)
                each_word(information(module->bytes, "softdep"), " ", [&](std::string_view one) {
                    if (!one.ends_with(':'))
                        needs.push_back(normal(one));
                });
        }
        for (const auto& one : needs)
            TRY_VOID(take(one, depth + 1));
        if (module)
            modules.push_back(std::move(*module));
        paths.push_back(entry.path);
        return {};
    }

    [[nodiscard]] Result<Module> read(const std::string& name, const Entry& entry) const {
        const auto path = tree_.folder_ + "/" + entry.path;
        Module module{name, TRY(read_unpacked(path, largest_module, Errc::modules_missing))};
        const auto magic = information(module.bytes, "vermagic");
        const auto made_for = magic.substr(0, magic.find(' '));
        if (!release_->empty() && !made_for.empty() && made_for != *release_)
            return fail(Errc::modules_missing,
                        in_quotes(path) + " is for the kernel " + printable(made_for) + ", but this one is " +
                            *release_,
                        "name this kernel's modules with --modules");
        return module;
    }

    const ModuleTree& tree_;
    const std::string* release_; ///< null: modules are not read
    std::set<std::string> seen_{};
};

Result<std::vector<ModuleTree::Module>> ModuleTree::load(std::span<const Wanted> wanted,
                                                         const std::string& release) const {
    Resolver resolver{*this, &release};
    for (const auto& one : wanted) {
        if (one.required && !builtin_.empty() && !builtin_.contains(normal(one.name)) && names_for(one.name).empty())
            return fail(Errc::modules_missing,
                        "the kernel has no " + std::string{one.name} +
                            ": it is neither built in nor among the modules in " + in_quotes(folder_),
                        "name a folder with all of this kernel's modules, or build a kernel with it");
        TRY_VOID(resolver.take(one.name));
    }
    return std::move(resolver.modules);
}

Result<std::vector<std::string>> ModuleTree::resolve(std::span<const Wanted> wanted) const {
    Resolver resolver{*this, nullptr};
    for (const auto& one : wanted)
        TRY_VOID(resolver.take(one.name));
    return std::move(resolver.paths);
}

} // namespace inox::guest_root
