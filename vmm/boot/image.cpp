// SPDX-License-Identifier: Apache-2.0
#include "vmm/boot/image.hpp"

#include <algorithm>
#include <cerrno>
#include <fcntl.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/base/hex.hpp"
#include "vmm/base/open_hint.hpp"

namespace inox::boot {
namespace {

/// After each piece a reader is asked whether it still wants the rest. A piece takes milliseconds, with page faults.
constexpr std::size_t piece = 8 * MiB;

std::string hint_for(int error) {
    switch (error) {
    case EACCES:
        return "give yourself read permission on the file and search permission on its folders";
    case ENOENT:
        return "check the path; it is relative to the folder inox was started in";
    default:
        return open_hint(error);
    }
}

} // namespace

Result<Image> Image::open(const std::string& path, const Role& role, std::stop_token stop) {
    // O_NONBLOCK: opening a FIFO must not wait for a writer.
    auto file = open_file(path, O_RDONLY | O_NONBLOCK, role.missing);
    if (!file) {
        Error error = file.error();
        error.what = std::string{"cannot open "} + role.name + " '" + path + "'";
        error.hint = hint_for(error.sys_errno);
        return std::unexpected(std::move(error));
    }
    Image image{std::string{role.name} + " '" + path + "'", role};
    struct stat status {};
    if (::fstat(file->get(), &status) != 0)
        return fail_errno(role.missing, "cannot examine " + image.name_);
    if (!S_ISREG(status.st_mode) && !S_ISBLK(status.st_mode))
        return fail(role.missing, image.name_ + (S_ISDIR(status.st_mode) ? " is a directory" : " is not a file"),
                    std::string{"give the path of the "} + role.name + " file itself");
    image.size_ = TRY(file_size(file->get()));
    if (image.size_ == 0)
        return fail(role.invalid, image.name_ + " is empty", "was its download or build interrupted?");
    image.file_ = std::move(*file);
    image.stop_ = std::move(stop);
    return image;
}

Image Image::of(std::span<const std::byte> bytes, std::string name, const Role& role) {
    Image image{std::string{role.name} + " '" + name + "'", role};
    image.bytes_ = bytes;
    image.size_ = bytes.size();
    return image;
}

Image Image::with(std::unique_ptr<Source> source, std::uint64_t largest, const char* note) const {
    Image image{name_ + " (" + note + ")", *role_};
    image.source_ = std::move(source);
    image.size_ = largest;
    image.stop_ = stop_;
    return image;
}

Result<void> Image::measure() {
    if (source_)
        size_ = TRY(source_->measure());
    return {};
}

Result<void> Image::check_wanted() const {
    if (stop_.stop_requested())
        return fail(Errc::wrong_state, name_ + " was not read: the start was stopped");
    return {};
}

Result<void> Image::read(std::uint64_t offset, std::span<std::byte> out) const {
    const auto ends_early = [&] {
        return fail(role_->invalid, format("%s ends before byte 0x%llx", name_.c_str(), hex(offset + out.size())),
                    "the file is truncated or was changed while it was read: fetch or build it again");
    };
    if (offset > size_ || out.size() > size_ - offset)
        return ends_early();
    if (source_)
        return source_->read(offset, out);
    if (!file_) {
        std::ranges::copy(bytes_.subspan(offset, out.size()), out.begin());
        return {};
    }
    while (!out.empty()) {
        TRY_VOID(check_wanted());
        const auto count = ::pread(file_.get(), out.data(), std::min(out.size(), piece), static_cast<off_t>(offset));
        if (count < 0 && errno == EINTR)
            continue;
        if (count < 0)
            return fail_errno(role_->missing, "cannot read " + name_);
        if (count == 0)
            return ends_early();
        out = out.subspan(static_cast<std::size_t>(count));
        offset += static_cast<std::uint64_t>(count);
    }
    return {};
}

bool Image::send(std::uint64_t offset, std::uint64_t size, int to, std::uint64_t to_offset) const {
    if (!file_ || ::lseek(to, static_cast<off_t>(to_offset), SEEK_SET) < 0)
        return false;
    auto from = static_cast<off_t>(offset);
    while (size > 0 && check_wanted()) {
        const auto count = ::sendfile(to, file_.get(), &from, std::min<std::uint64_t>(size, piece));
        if (count < 0 && errno == EINTR)
            continue;
        if (count <= 0)
            return false;
        size -= static_cast<std::uint64_t>(count);
    }
    return size == 0;
}

std::unexpected<Error> Image::invalid(const std::string& what, std::string hint) const {
    return fail(role_->invalid, name_ + ": " + what, std::move(hint));
}

} // namespace inox::boot
