// SPDX-License-Identifier: Apache-2.0
#include "vmm/instance/output_file.hpp"

#include <cerrno>
#include <cstring>
#include <unistd.h>

#include "vmm/base/log.hpp"

namespace inox {

Result<OutputFile> OutputFile::open(const std::string& path, const char* role) {
    return OutputFile{TRY(open_output(path)), path, role};
}

OutputFile::OutputFile(OutputFile&& other) noexcept
    : file_{std::move(other.file_)}, path_{std::move(other.path_)}, role_{other.role_}, missed_{other.missed_.load()},
      first_errno_{other.first_errno_.load()} {}

void OutputFile::clear() noexcept {
    (void)!::ftruncate(file_.get(), 0); // fails on what is not a regular file
}

std::size_t OutputFile::offer(std::span<const std::byte> bytes) noexcept {
    std::size_t done = 0;
    while (done < bytes.size()) {
        const auto written = ::write(file_.get(), bytes.data() + done, bytes.size() - done);
        if (written > 0) {
            done += static_cast<std::size_t>(written);
        } else if (written == 0 || errno == EAGAIN) {
            return done;
        } else if (errno != EINTR) {
            const int error = errno;
            drop(bytes.size() - done);
            if (first_errno_.exchange(error, std::memory_order_relaxed) == 0)
                log::write(log::Level::warning, "%s '%s' cannot be written: %s; the guest continues", role_,
                           path_.c_str(), std::strerror(error));
            return bytes.size();
        }
    }
    return done;
}

Result<void> OutputFile::result() const {
    const int error = first_errno_.load(std::memory_order_relaxed);
    if (error == 0)
        return {};
    errno = error;
    return fail_errno(Errc::output_unwritable,
                      format("%s '%s' is not complete: %llu bytes are missing", role_, path_.c_str(),
                             static_cast<unsigned long long>(missed())),
                      "free space there, or name a file elsewhere");
}

} // namespace inox
