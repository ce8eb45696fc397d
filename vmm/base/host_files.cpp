// SPDX-License-Identifier: Apache-2.0
#include "vmm/base/host_files.hpp"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/base/os.hpp"

namespace inox::host {

std::string read_text(const std::string& path, std::size_t limit) {
    const UniqueFd file{::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)};
    std::string text(file ? limit : 0, '\0');
    std::size_t used = 0;
    while (used < text.size()) {
        const auto got = ::read(file.get(), text.data() + used, text.size() - used);
        if (got <= 0)
            break;
        used += static_cast<std::size_t>(got);
    }
    text.resize(used);
    text.erase(text.find_last_not_of(" \n\t") + 1);
    return text;
}

std::uint64_t read_number(const std::string& path, int base) {
    return std::strtoull(read_text(path).c_str(), nullptr, base);
}

std::vector<std::string> words(const std::string& text) {
    static constexpr const char* space = " \t\n";
    std::vector<std::string> out;
    for (auto start = text.find_first_not_of(space); start != text.npos;) {
        const auto end = std::min(text.find_first_of(space, start), text.size());
        out.push_back(text.substr(start, end - start));
        start = text.find_first_not_of(space, end);
    }
    return out;
}

std::vector<std::string> list(const std::string& directory) {
    std::vector<std::string> names;
    DIR* const stream = ::opendir(directory.c_str());
    if (stream == nullptr)
        return names;
    while (const auto* entry = ::readdir(stream))
        if (entry->d_name[0] != '.')
            names.emplace_back(entry->d_name);
    ::closedir(stream);
    std::ranges::sort(names, [](const std::string& a, const std::string& b) {
        const bool numbers = std::ranges::all_of(a + b, [](char c) { return c >= '0' && c <= '9'; });
        return numbers && a.size() != b.size() ? a.size() < b.size() : a < b;
    });
    return names;
}

bool exists(const std::string& path) { return ::access(path.c_str(), F_OK) == 0; }

bool opens(const std::string& path) { return bool{UniqueFd{::open(path.c_str(), O_RDWR | O_CLOEXEC | O_NONBLOCK)}}; }

std::string link_name(const std::string& path) {
    std::array<char, 4096> target{};
    const auto length = ::readlink(path.c_str(), target.data(), target.size());
    if (length <= 0)
        return {};
    const std::string text{target.data(), static_cast<std::size_t>(length)};
    return text.substr(text.rfind('/') + 1);
}

std::string group_name(const std::string& root, std::uint32_t gid) {
    const std::string text = "\n" + read_text(root + "/etc/group", 256 * 1024) + "\n";
    const std::string number = std::to_string(gid);
    for (std::size_t start = 0; start + 1 < text.size(); start = text.find('\n', start + 1)) {
        const auto name_end = text.find(':', start + 1);
        const auto password_end = text.find(':', name_end + 1);
        if (name_end == text.npos || password_end == text.npos)
            break;
        if (text.compare(password_end + 1, number.size() + 1, number + ":") == 0)
            return text.substr(start + 1, name_end - start - 1);
    }
    return number;
}

std::uint64_t meminfo(const std::string& root, const std::string& key) {
    const std::string text = "\n" + read_text(root + "/proc/meminfo", 16 * 1024);
    const auto at = text.find("\n" + key + ":");
    return at == text.npos ? 0 : std::strtoull(text.c_str() + at + key.size() + 2, nullptr, 10) * 1024;
}

} // namespace inox::host
