// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <fcntl.h>
#include <unistd.h>

#include "vmm/base/os.hpp"
#include "vmm/machine/config_file.hpp"
#include "vmm/machine/config_json.hpp"
#include "vmm/machine/config_text.hpp"

namespace vmm {
namespace {

/// Up to one chunk more than the parser accepts, so that it can tell.
Result<std::string> read_text(int file, const std::string& path) {
    static constexpr std::size_t chunk = 16384;
    std::string text;
    while (text.size() <= json_max_size) {
        const auto used = text.size();
        text.resize(used + chunk);
        const auto got = ::read(file, text.data() + used, chunk);
        if (got < 0 && errno != EINTR)
            return fail_errno(Errc::config_unreadable, "cannot read " + in_quotes(path));
        text.resize(used + static_cast<std::size_t>(std::max<ssize_t>(got, 0)));
        if (got == 0)
            break;
    }
    return text;
}

Result<std::string> read_file(const std::string& path) {
    if (path == "-")
        return read_text(STDIN_FILENO, "standard input");
    const auto file = TRY(open_file(path, O_RDONLY, Errc::config_unreadable));
    return read_text(file.get(), path);
}

} // namespace

Result<std::string> load_text(const std::string& path) {
    auto text = read_file(path);
    if (!text)
        text.error().hint = "check the path and its permissions";
    return text;
}

ParsedConfig load_config(const std::string& path, Dialect dialect, Transport transport) {
    auto text = load_text(path);
    if (text)
        return parse_config(*text, dialect, transport);
    ParsedConfig out;
    out.problems.push_back(std::move(text).error());
    return out;
}

} // namespace vmm
