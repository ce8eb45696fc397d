// SPDX-License-Identifier: Apache-2.0
// The guest's files and its command: the keys, the options, the rules.
#include <algorithm>
#include <iterator>

#include "vmm/config/config.hpp"
#include "vmm/config/config_options.hpp"
#include "vmm/config/config_sections.hpp"
#include "vmm/config/config_text.hpp"
#include "vmm/config/root_names.hpp"

namespace inox {
namespace {

RootConfig& root(ConfigFile& file) {
    if (!file.config.root)
        file.config.root.emplace();
    return *file.config.root;
}
CommandConfig& command(ConfigFile& file) {
    if (!file.config.command)
        file.config.command.emplace();
    return *file.config.command;
}

// The keys

constexpr Field of_root[] = {
    {"path", Need::required, Null::refused,
     [](const JsonValue& value, ConfigFile& file) { read_path(value, root(file).path); }},
    {"writable", Need::optional, Null::refused,
     [](const JsonValue& value, ConfigFile& file) { root(file).writable = value.boolean().value_or(false); }},
    {"modules", Need::optional, Null::refused,
     [](const JsonValue& value, ConfigFile& file) { read_path(value, root(file).modules); }},
};

constexpr Field of_command[] = {
    {"arguments", Need::optional, Null::refused,
     [](const JsonValue& value, ConfigFile& file) { read_texts(value, command(file).arguments); }},
    {"environment", Need::optional, Null::refused,
     [](const JsonValue& value, ConfigFile& file) { read_texts(value, command(file).environment); }},
    {"directory", Need::optional, Null::refused,
     [](const JsonValue& value, ConfigFile& file) { read_name(value, "the directory", command(file).directory); }},
};

// The options

Result<void> not_empty(const CommandOption& self, const std::string& text) {
    if (text.empty())
        return refuse_option(self, "the path is empty", "name a folder");
    return {};
}

Result<void> set_root(const CommandOption& self, const std::string& text, ConfigFile& file) {
    if (text.empty())
        return refuse_option(self, "the path is empty", "name a folder, an image or a tar archive");
    root(file).path = text;
    return {};
}

Result<void> set_writable(const CommandOption& /*self*/, const std::string& /*text*/, ConfigFile& file) {
    root(file).writable = true;
    return {};
}

Result<void> set_modules(const CommandOption& self, const std::string& text, ConfigFile& file) {
    TRY_VOID(not_empty(self, text));
    root(file).modules = text;
    return {};
}

Result<void> add_variable(const CommandOption& self, const std::string& text, ConfigFile& file) {
    if (text.empty() || text.starts_with('='))
        return refuse_option(self, in_quotes(text) + " has no name",
                             "write NAME=VALUE, or NAME for the value it has here");
    command(file).environment.push_back(text);
    return {};
}

Result<void> set_directory(const CommandOption& self, const std::string& text, ConfigFile& file) {
    TRY_VOID(not_empty(self, text));
    command(file).directory = text;
    return {};
}

constexpr CommandOption options[] = {
    {"--root", "PATH",
     "the guest's files: a folder, an image with a file system, or a tar archive; its memory takes "
     "what it writes",
     "/root/path", set_root},
    {"--root-rw", nullptr, "write to the root itself", "/root/writable", set_writable},
    {"--modules", "DIR", "the kernel's modules; default: beside the kernel, or /lib/modules", "/root/modules",
     set_modules},
    {"--env", "NAME[=VALUE]", "a variable of the command behind --; without a value, as it is here",
     "/command/environment", add_variable, true},
    {"--directory", "DIR", "where in the root the command runs; default: this directory if the root has it, else /",
     "/command/directory", set_directory},
};

// The rules

std::size_t bytes_of(const std::vector<std::string>& texts) {
    std::size_t bytes = 0;
    for (const auto& text : texts)
        bytes += text.size() + 1;
    return bytes;
}

void check_command(const Config& config, std::vector<Error>& problems) {
    const auto& command = *config.command;
    const auto add = [&](const char* where, Errc code, std::string what, std::string hint) {
        problems.push_back(error_at(where, code, std::move(what), std::move(hint)));
    };
    if (!config.root)
        add(!command.arguments.empty()     ? "/command/arguments"
            : !command.environment.empty() ? "/command/environment"
                                           : "/command/directory",
            Errc::config_missing_key, "a command needs a root to run in",
            "name it with --root, such as --root /, or path in the section root");
    if (!command.arguments.empty() && command.arguments.front().empty())
        add("/command/arguments", Errc::config_value, "the command's name is empty", "name a program of the root");
    if (std::ranges::any_of(command.environment, [](const auto& one) { return one.empty() || one.starts_with('='); }))
        add("/command/environment", Errc::config_value, "a variable has no name",
            "write NAME=VALUE, or NAME for the value it has here");
    if (!command.directory.empty() && !command.directory.starts_with('/'))
        add("/command/directory", Errc::config_value, in_quotes(command.directory) + " does not begin with /",
            "name a directory of the root by its whole path");
    if (bytes_of(command.arguments) + bytes_of(command.environment) > CommandConfig::most_bytes)
        add("/command/arguments", Errc::config_value, "the command and its environment are larger than 2 MiB",
            "hand large data over in a file");
}

} // namespace

void read_texts(const JsonValue& value, std::vector<std::string>& out) {
    if (!value.json().is_array())
        return value.report_type(JsonType::array);
    out.clear();
    for (std::size_t i = 0; i < value.json().size(); ++i) {
        const JsonValue one{value.json()[i], json_pointer(value.pointer(), std::to_string(i)), value.problems()};
        auto text = one.text();
        if (text && text->contains('\0'))
            one.report(Errc::config_value, "the text holds a NUL", "leave it out");
        else if (text)
            out.push_back(std::move(*text));
    }
}

std::span<const Field> root_fields() { return of_root; }
std::span<const Field> command_fields() { return of_command; }
std::span<const CommandOption> root_options() { return options; }

void check_root(const Config& config, std::vector<Error>& problems) {
    if (config.command)
        check_command(config, problems);
    if (!config.root)
        return;
    const auto add = [&](const char* where, Errc code, std::string what, std::string hint) {
        problems.push_back(error_at(where, code, std::move(what), std::move(hint)));
    };
    const auto& path = config.root->path;
    if (path.empty())
        return add(config.root->writable ? "/root/writable" : "/root/modules", Errc::config_missing_key,
                   "there is no root", "name it with --root, or path in the section root");
    if (config.boot.kernel.empty())
        add("/root/path", Errc::config_missing_key, "a root needs a kernel",
            "name it with --kernel, or kernel_image_path in boot-source");
    if (!config.boot.initrd.empty())
        add("/root/path", Errc::config_value, "a root and an initrd exclude each other",
            "leave out the initrd: inox makes one that mounts the root");
    for (const auto& device : config.devices)
        if (const auto id = device_name(device).id; id == RootConfig::name || id == modules_share)
            add("/root/path", Errc::config_value,
                device_name(device).text() + " has the name that the root's own device gets", "give it another one");
}

} // namespace inox
