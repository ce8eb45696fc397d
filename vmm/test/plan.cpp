// SPDX-License-Identifier: Apache-2.0
#include "vmm/test/plan.hpp"

#include <sys/utsname.h>

#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <filesystem>
#include <string_view>

#include "vmm/config/config.hpp"
#include "vmm/config/config_text.hpp"

namespace inox::test {
namespace {

namespace fs = std::filesystem;

bool is_file(const fs::path& path) {
    std::error_code ignored;
    return fs::is_regular_file(path, ignored);
}

/// Debian's System.map is a line that says where the real one is.
std::string symbols_at(const fs::path& path) {
    std::error_code error;
    const auto size = fs::file_size(path, error);
    return !error && size > 4096 ? path.string() : std::string{};
}

std::string label_of(std::string_view text) {
    std::string out;
    for (const char c : text)
        out +=
            std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '.' || c == '_' || c == '-' || c == '+' ? c : '_';
    return out.empty() ? "kernel" : out;
}

Kernel kernel_at(const fs::path& image, const std::string& label) {
    const auto name = image.filename().string();
    Kernel kernel{.image = image.string(), .symbols = {}, .label = label_of(label)};
    if (name.starts_with("vmlinuz-"))
        kernel.symbols = symbols_at(image.parent_path() / ("System.map-" + name.substr(8)));
    else
        kernel.symbols = symbols_at(image.parent_path() / "System.map");
    return kernel;
}

/// The part of a path that tells kernels apart: a folder's name, or that of the file.
std::string telling_part(fs::path path) {
    path = path.lexically_normal();
    if (path.filename().empty())
        path = path.parent_path();
    static constexpr std::string_view usual[] = {"bzImage", "vmlinux", "vmlinuz", "boot", "x86", "arch", "."};
    while (path.has_parent_path() && path.has_filename() &&
           std::ranges::find(usual, path.filename().string()) != std::end(usual))
        path = path.parent_path();
    const auto name = path.filename().string();
    return name.starts_with("vmlinuz-") ? name.substr(8) : name;
}

/// Whether a kernel's release begins with these words: "6.1" is 6.1.0-57-amd64 and not 6.12.
bool begins(std::string_view release, std::string_view start) {
    return release.starts_with(start) &&
           (release.size() == start.size() || std::isdigit(static_cast<unsigned char>(release[start.size()])) == 0);
}

/// By their numbers: 6.1.9 is older than 6.1.10.
bool older(const std::string& a, const std::string& b) { return ::strverscmp(a.c_str(), b.c_str()) < 0; }

fs::path fetched_kernels() {
    if (const char* cache = std::getenv("INOX_CACHE"); cache != nullptr && *cache != 0)
        return fs::path{cache} / "kernels";
    const char* home = std::getenv("HOME");
    return fs::path{home == nullptr ? "/" : home} / ".cache/inox/kernels";
}

/// The newest of the files that are called so.
std::optional<Kernel> newest(const fs::path& folder, const std::string& start, bool fetched) {
    std::string best;
    std::error_code error;
    for (const auto& entry : fs::directory_iterator{folder, error}) {
        auto name = entry.path().filename().string();
        if (!fetched) {
            if (!name.starts_with("vmlinuz-"))
                continue;
            name.erase(0, 8);
        } else if (!is_file(entry.path() / "vmlinuz"))
            continue;
        // The flavour counts unless it was not asked for: "6.1-cloud" is no "6.1".
        if (begins(name, start) && (!fetched || name.substr(0, name.rfind('-')) == start) &&
            (best.empty() || older(best, name)))
            best = name;
    }
    if (best.empty())
        return std::nullopt;
    return fetched ? kernel_at(folder / best / "vmlinuz", start) : kernel_at(folder / ("vmlinuz-" + best), best);
}

void add(std::vector<std::string>& arguments, const char* name, const std::string& value) {
    if (!value.empty())
        arguments.insert(arguments.end(), {name, value});
}

std::string joined(const std::vector<std::string>& words) {
    std::string out;
    for (const auto& word : words)
        out += (out.empty() ? "" : " ") + shell_word(word);
    return out;
}

bool has(const Plan& plan, std::string_view name) {
    return std::ranges::find(plan.options, name, &RunOption::name) != plan.options.end() ||
           std::ranges::find(plan.in_file, name) != plan.in_file.end();
}

} // namespace

Result<Kernel> find_kernel(const std::string& word) {
    std::error_code error;
    const fs::path path{word};
    if (is_file(path))
        return kernel_at(path, telling_part(fs::absolute(path, error)));
    if (fs::is_directory(path, error)) {
        for (const char* image : {"arch/x86/boot/bzImage", "vmlinuz", "bzImage", "vmlinux"})
            if (is_file(path / image)) {
                auto kernel = kernel_at(path / image, telling_part(fs::absolute(path, error)));
                if (kernel.symbols.empty())
                    kernel.symbols = symbols_at(path / "System.map");
                return kernel;
            }
        return fail(Errc::kernel_missing, in_quotes(word) + " holds no kernel",
                    "name a build directory with arch/x86/boot/bzImage in it, or the kernel itself");
    }
    std::string release = word.starts_with("debian-") ? word.substr(7) : word;
    if (word == "host") {
        utsname name{};
        if (::uname(&name) == 0)
            release = name.release;
    }
    if (!release.empty() && release.find('/') == release.npos) {
        if (auto kernel = newest("/boot", release, false))
            return *std::move(kernel);
        if (auto kernel = newest(fetched_kernels(), release, true))
            return *std::move(kernel);
    }
    return fail(Errc::kernel_missing, "there is no kernel " + in_quotes(word),
                "name a bzImage, a vmlinux, a build directory, or a release that is in /boot; `tools/dev kernel 6.12` "
                "of inox's sources fetches Debian's 6.12");
}

std::string Machine::text() const {
    std::string out = kernel.label;
    if (!cpus.empty())
        out += ", " + cpus + (cpus == "1" ? " CPU" : " CPUs");
    if (!memory.empty())
        out += ", " + memory;
    return out;
}

std::string Machine::file_name() const {
    std::string out = std::to_string(index) + "-" + kernel.label;
    for (const auto& part : {cpus, memory})
        if (!part.empty())
            out += "-" + label_of(part);
    return out;
}

Result<void> check_count(std::size_t kernels, std::size_t cpus, std::size_t memory) {
    std::size_t count = 1;
    for (const auto size : {kernels, cpus, memory})
        count = size > most_machines ? most_machines + 1
                                     : std::min(count * std::max(size, std::size_t{1}), most_machines + 1);
    if (count <= most_machines)
        return {};
    return fail(Errc::no_resource, format("more than %zu combinations of kernel, CPUs and memory", most_machines),
                "use shorter lists");
}

std::vector<Machine> machines(const Plan& plan, std::vector<Error>& problems) {
    static const std::vector<std::string> unchosen{""};
    const auto& all_cpus = plan.cpus.empty() ? unchosen : plan.cpus;
    const auto& all_memory = plan.memory.empty() ? unchosen : plan.memory;
    std::vector<Machine> out;
    if (auto few = check_count(plan.kernels.size(), plan.cpus.size(), plan.memory.size()); !few) {
        problems.push_back(std::move(few).error());
        problems.back().where = plan.kernels_key;
        return out;
    }
    for (const auto& word : plan.kernels) {
        auto kernel = find_kernel(word);
        if (!kernel) {
            problems.push_back(std::move(kernel).error());
            problems.back().where = plan.kernels_key;
            continue;
        }
        for (const auto& cpus : all_cpus)
            for (const auto& memory : all_memory)
                out.push_back(
                    {.index = out.size(), .kernel = *kernel, .kernel_word = word, .cpus = cpus, .memory = memory});
    }
    return out;
}

std::string kernel_cmdline(const Plan& plan) {
    auto out = plan.cmdline.value_or(std::string{default_cmdline} +
                                     (plan.kunit ? " loglevel=7 kunit_shutdown=poweroff" : " loglevel=5") +
                                     " unknown_nmi_panic panic_print=0x40");
    if (!plan.append.empty())
        out += (out.empty() ? "" : " ") + plan.append;
    return out;
}

std::vector<std::string> run_arguments(const Plan& plan, const Machine& machine, const Outputs& outputs) {
    std::vector<std::string> out{"run", "--kernel", machine.kernel.image};
    add(out, "--cpus", machine.cpus);
    add(out, "--memory", machine.memory);
    if (!has(plan, "--symbols"))
        add(out, "--symbols", machine.kernel.symbols);
    out.insert(out.end(), {"--cmdline", kernel_cmdline(plan)});
    add(out, "--timeout", plan.timeout);
    out.insert(out.end(), {"--fail-on", "kernel"});
    for (const auto& option : plan.options) {
        if (option.name == "--cmdline") // stands above, with what is appended
            continue;
        out.push_back(option.name);
        if (option.value)
            out.push_back(*option.value);
    }
    out.insert(out.end(), {"--serial-log", outputs.console(), "--result", outputs.result()});
    if (plan.command.empty())
        return out;
    if (!has(plan, "--console"))
        out.insert(out.end(), {"--console", outputs.output()});
    if (!has(plan, "--root"))
        out.insert(out.end(), {"--root", "/"});
    out.emplace_back("--");
    out.insert(out.end(), plan.command.begin(), plan.command.end());
    return out;
}

std::string shell_word(std::string_view word) {
    static constexpr std::string_view plain =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-+=./,:@%";
    if (!word.empty() && word.find_first_not_of(plain) == word.npos)
        return std::string{word};
    std::string out = "'";
    for (const char c : word)
        if (c == '\'')
            out += "'\\''";
        else
            out += c;
    return out + "'";
}

std::string repeat_line(const Plan& plan, const Machine& machine) {
    std::vector<std::string> words{"inox", "test", "--kernel", machine.kernel_word};
    add(words, "--cpus", machine.cpus);
    add(words, "--memory", machine.memory);
    add(words, "--append", plan.append);
    if (plan.kunit)
        words.emplace_back("--kunit");
    if (plan.timeout != Plan{}.timeout)
        add(words, "--timeout", plan.timeout);
    for (const auto& option : plan.options) {
        words.push_back(option.name);
        if (option.value)
            words.push_back(*option.value);
    }
    if (!plan.command.empty()) {
        words.emplace_back("--");
        words.insert(words.end(), plan.command.begin(), plan.command.end());
    }
    return joined(words);
}

std::string command_line(const Plan& plan) { return joined(plan.command); }

} // namespace inox::test
