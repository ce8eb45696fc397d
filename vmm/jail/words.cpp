// SPDX-License-Identifier: Apache-2.0
#include "vmm/jail/words.hpp"

#include <cerrno>
#include <cstring>
#include <utility>

#include "vmm/base/open_hint.hpp"

namespace inox::jail {
namespace {

/// Firecracker's programs are linked with musl, whose words for some errors differ from glibc's.
constexpr std::pair<int, const char*> other_words[] = {
    {EBUSY, "Resource busy"},
    {EMFILE, "No file descriptors available"},
    {ELOOP, "Symbolic link loop"},
    {ENOMEM, "Out of memory"},
    {ENAMETOOLONG, "Filename too long"},
    {EXDEV, "Cross-device link"},
    {ETXTBSY, "Text file busy"},
    {ENOTTY, "Not a tty"},
    {EAGAIN, "Resource temporarily unavailable"},
};

} // namespace

std::string os_text() {
    const int error = errno;
    const char* text = std::strerror(error); // NOLINT(concurrency-mt-unsafe): this program has one thread
    for (const auto& [number, words] : other_words)
        if (number == error)
            text = words;
    return format("%s (os error %d)", text, error);
}

std::unexpected<Error> fail_os(const std::string& text, std::string hint) {
    const int error = errno;
    return fail(Errc::host_error, text + ": " + os_text(), hint.empty() ? open_hint(error) : std::move(hint));
}

} // namespace inox::jail
