// SPDX-License-Identifier: Apache-2.0
#include "vmm/guest_root/root_kind.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <fcntl.h>
#include <optional>
#include <string_view>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/base/bytes.hpp"
#include "vmm/base/open_hint.hpp"
#include "vmm/base/os.hpp"
#include "vmm/config/config_text.hpp"
#include "vmm/guest_root/unpack.hpp"

namespace inox::guest_root {
namespace {

/// A file system by the bytes at a place of its first blocks.
struct Mark {
    const char* name;
    std::uint64_t offset;
    std::string_view bytes;
};
constexpr Mark marks[] = {
    {"xfs", 0, "XFSB"},
    {"squashfs", 0, "hsqs"},
    {"erofs", 1024, "\xe2\xe1\xf5\xe0"},
    {"ext4", 1024 + 0x38, "\x53\xef"}, // Linux mounts ext2 and ext3 by the same driver
    {"btrfs", 64 * KiB + 0x40, "_BHRfS_M"},
};

constexpr std::uint64_t sector = 512;
constexpr unsigned most_partitions = 128;

class Disk {
public:
    explicit Disk(UniqueFd file) : file_{std::move(file)} {}

    /// Whether all of it could be read.
    bool read(std::uint64_t offset, std::span<std::byte> out) const {
        while (!out.empty()) {
            const auto count = ::pread(file_.get(), out.data(), out.size(), static_cast<off_t>(offset));
            if (count < 0 && errno == EINTR)
                continue;
            if (count <= 0)
                return false;
            out = out.subspan(static_cast<std::size_t>(count));
            offset += static_cast<std::uint64_t>(count);
        }
        return true;
    }
    template <GuestPod T> [[nodiscard]] std::optional<T> get(std::uint64_t offset) const {
        T value{};
        return read(offset, std::as_writable_bytes(std::span{&value, 1})) ? std::optional{value} : std::nullopt;
    }
    [[nodiscard]] bool has(std::uint64_t offset, std::string_view bytes) const {
        std::array<char, 16> there{};
        const auto some = std::span{there}.first(bytes.size());
        return read(offset, std::as_writable_bytes(some)) && std::ranges::equal(some, bytes);
    }

private:
    UniqueFd file_;
};

const char* file_system_at(const Disk& disk, std::uint64_t start) {
    if (start > INT64_MAX - MiB)
        return nullptr;
    for (const auto& mark : marks)
        if (disk.has(start + mark.offset, mark.bytes))
            return mark.name;
    return nullptr;
}

/// The first partition with a file system that we know: of a GPT (UEFI 2.10, 5.3), or the four of an MBR.
std::optional<RootKind> partition_of(const Disk& disk) {
    const auto found = [](unsigned number, const char* name) { return RootKind{RootKind::Type::disk, name, number}; };
    if (disk.has(sector, "EFI PART")) {
        const auto table = disk.get<Le64>(sector + 72);
        const auto count = disk.get<Le32>(sector + 80);
        const auto size = disk.get<Le32>(sector + 84);
        if (!table || !count || !size || *size < 128 || *size > 4 * KiB || *table > INT64_MAX / sector - MiB)
            return std::nullopt;
        for (unsigned i = 0; i < std::min<std::uint32_t>(*count, most_partitions); ++i) {
            const auto first = disk.get<Le64>(*table * sector + std::uint64_t{i} * *size + 32);
            if (first && *first != 0 && *first < INT64_MAX / sector)
                if (const char* name = file_system_at(disk, *first * sector))
                    return found(i + 1, name);
        }
        return std::nullopt;
    }
    if (!disk.has(510, "\x55\xaa"))
        return std::nullopt;
    for (unsigned i = 0; i < 4; ++i)
        if (const auto first = disk.get<Le32>(446 + 16 * i + 8); first && *first != 0)
            if (const char* name = file_system_at(disk, *first * sector))
                return found(i + 1, name);
    return std::nullopt;
}

} // namespace

Result<RootKind> look_at_root(const std::string& path) {
    struct stat status {};
    if (::stat(path.c_str(), &status) != 0) {
        auto error = fail_errno(Errc::root_missing, "cannot use " + in_quotes(path) + " as the guest's root");
        error.error().hint =
            open_hint(error.error().sys_errno, "check the path; it is relative to the folder inox was started in");
        return error;
    }
    if (S_ISDIR(status.st_mode))
        return RootKind{};
    if (!S_ISREG(status.st_mode) && !S_ISBLK(status.st_mode))
        return fail(Errc::root_invalid, in_quotes(path) + " is neither a folder nor a file nor a block device",
                    "name a folder, an image with a file system, or a tar archive");
    const Disk disk{TRY(open_file(path, O_RDONLY | O_NONBLOCK, Errc::root_missing))};
    if (const char* name = file_system_at(disk, 0))
        return RootKind{RootKind::Type::disk, name, 0};
    if (auto partition = partition_of(disk))
        return std::move(*partition);
    if (S_ISREG(status.st_mode) && is_tar(path))
        return RootKind{RootKind::Type::archive, {}, 0};
    return fail(Errc::root_invalid, in_quotes(path) + " has no file system that inox knows, and is no tar archive",
                "use ext2 to ext4, xfs, btrfs, squashfs or erofs on a raw image, or a tar archive");
}

} // namespace inox::guest_root
