// SPDX-License-Identifier: Apache-2.0
#include "vmm/base/replace_output.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>

#include "vmm/base/os.hpp"
#include "vmm/base/outside/outside.hpp"

namespace inox {

Result<void> replace_output(const std::string& path, std::string_view text) {
    if (outside::is_shut())
        return outside::replace(path, text) ? Result<void>{}
                                            : fail_errno(Errc::output_unwritable, "cannot replace " + path);
    struct stat status {};
    // A pipe or a device cannot be replaced.
    if (::stat(path.c_str(), &status) == 0 && !S_ISREG(status.st_mode)) {
        const auto file = TRY(open_output(path));
        return write_all(file.get(), text);
    }
    std::string temporary = path + ".XXXXXX"; // a name that nothing has
    const UniqueFd file{::mkostemp(temporary.data(), O_CLOEXEC)};
    if (!file)
        return fail_errno(Errc::output_unwritable, "cannot make a file beside " + path);
    auto written = write_all(file.get(), text);
    if (written && ::rename(temporary.c_str(), path.c_str()) != 0)
        written = fail_errno(Errc::output_unwritable, "cannot replace " + path);
    if (!written)
        ::unlink(temporary.c_str());
    return written;
}

bool rename_durably(const std::string& from, const std::string& to) {
    const auto slash = to.rfind('/');
    const auto path = slash == to.npos ? std::string{"."} : to.substr(0, slash + 1);
    const UniqueFd folder{::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)}; // NOLINT(*-vararg)
    return folder && ::rename(from.c_str(), to.c_str()) == 0 && ::fsync(folder.get()) == 0;
}

} // namespace inox
