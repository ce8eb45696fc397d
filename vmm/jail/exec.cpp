// SPDX-License-Identifier: Apache-2.0
#include "vmm/jail/exec.hpp"

#include <climits>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/config/config_text.hpp"
#include "vmm/jail/words.hpp"

namespace inox::jail {
namespace {

std::vector<char*> pointers(const std::vector<std::string>& words) {
    std::vector<char*> out;
    for (const auto& word : words)
        out.push_back(const_cast<char*>(word.c_str())); // NOLINT: as exec(3) asks
    out.push_back(nullptr);
    return out;
}

} // namespace

Result<std::vector<DeviceFile>> look_at(const std::vector<std::string>& paths) {
    std::vector<DeviceFile> out;
    for (const auto& path : paths) {
        struct stat status {};
        if (::stat(path.c_str(), &status) != 0)
            return fail_os("Failed to open " + printable(path, PATH_MAX));
        if (!path.starts_with('/') || (!S_ISCHR(status.st_mode) && !S_ISBLK(status.st_mode)))
            return fail(Errc::bad_option, printable(path, PATH_MAX) + " is not a device file",
                        "write its whole path, such as /dev/vfio/12");
        out.push_back({path, status.st_mode & S_IFMT, status.st_rdev});
    }
    return out;
}

Result<UniqueFd> open_nothing() {
    UniqueFd file{::open("/dev/null", O_RDWR | O_CLOEXEC)}; // NOLINT(*-vararg)
    if (!file)
        return fail_os("Failed to open file /dev/null");
    return file;
}

void use_nothing(const UniqueFd& nothing) {
    for (const int fd : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO})
        ::dup2(nothing.get(), fd);
}

void execute_program(const std::vector<std::string>& words, const std::vector<std::string>& environment) {
    ::execve(words.front().c_str(), pointers(words).data(), pointers(environment).data());
}

} // namespace inox::jail
