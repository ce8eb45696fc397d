// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <fcntl.h>
#include <unistd.h>

#include "vmm/base/descriptors.hpp"
#include "vmm/base/open_hint.hpp"
#include "vmm/base/os.hpp"
#include "vmm/config/config_file.hpp"
#include "vmm/config/config_json.hpp"
#include "vmm/config/config_text.hpp"

namespace inox {
namespace {

Result<std::string> read_text(int file, const std::string& path, std::size_t max_size) {
    static constexpr std::size_t chunk = 16384;
    std::string text;
    while (text.size() <= max_size) {
        const auto used = text.size();
        text.resize(used + chunk);
        const auto got = ::read(file, text.data() + used, chunk);
        if (got < 0 && errno != EINTR)
            return fail_errno(Errc::config_unreadable, "cannot read " + in_quotes(path));
        text.resize(used + static_cast<std::size_t>(std::max<ssize_t>(got, 0)));
        if (got == 0)
            return text;
    }
    return fail(Errc::config_syntax, "larger than " + size_text(max_size), "is this the right file?");
}

Result<std::string> read_file(const std::string& path, std::size_t max_size) {
    if (path == "-")
        return read_text(STDIN_FILENO, "standard input", max_size);
    const auto file = TRY(open_file(path, O_RDONLY, Errc::config_unreadable));
    return read_text(file.get(), path, max_size);
}

/// Puts the object of another file in the place of its path.
Result<std::string> with_cpu_config(std::string text) {
    auto json = read_json(text);
    const auto* path = json.problems.empty() && json.root.is_object() && json.root.contains("cpu-config")
                           ? json.root["cpu-config"].get_ptr<const std::string*>()
                           : nullptr;
    if (path == nullptr)
        return text;
    auto cpu = load_text(*path, json_max_size);
    auto read = cpu ? read_json(*cpu) : JsonText{};
    if (!cpu || !read.problems.empty()) {
        Error error = cpu ? std::move(read.problems.front()) : std::move(cpu).error();
        error.where = "/cpu-config";
        return std::unexpected<Error>{std::move(error)};
    }
    json.root["cpu-config"] = std::move(read.root);
    return json.root.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

} // namespace

Result<std::string> load_text(const std::string& path, std::size_t max_size) {
    auto text = read_file(path, max_size);
    if (!text && text.error().hint.empty())
        text.error().hint = open_hint(text.error().sys_errno, "check the path and its permissions");
    return text;
}

ParsedConfig load_config(const std::string& path, Dialect dialect, Transport transport, Rules rules) {
    auto text = load_text(path, json_max_size);
    if (text)
        descriptors::keep_named(*text);
    if (text && dialect == Dialect::firecracker)
        text = with_cpu_config(std::move(*text));
    const auto folder = dialect == Dialect::inox ? path.substr(0, path.rfind('/') + 1) : std::string{};
    if (text)
        return parse_config(*text, dialect, transport, folder, rules);
    ParsedConfig out;
    out.problems.push_back(std::move(text).error());
    return out;
}

} // namespace inox
