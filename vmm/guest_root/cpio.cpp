// SPDX-License-Identifier: Apache-2.0
#include "vmm/guest_root/cpio.hpp"

#include <algorithm>
#include <sys/stat.h>
#include <utility>

#include "vmm/base/bytes.hpp"
#include "vmm/config/config_text.hpp"

namespace inox::guest_root {
namespace {

constexpr std::size_t longest_path = 4000; // Linux passes over a name that is longer than PATH_MAX, 4096
constexpr std::uint64_t largest_file = UINT32_MAX;
constexpr std::size_t header_size = 110;
constexpr std::size_t field = 8;       // hexadecimal digits
constexpr std::size_t links_field = 4; // after the magic: ino, mode, uid, gid, nlink
constexpr std::size_t magic_size = 6;

} // namespace

Result<std::string> inner_path(std::string_view path) {
    std::string out;
    for (std::size_t at = 0; at < path.size();) {
        const auto end = std::min(path.find('/', at), path.size());
        const auto part = path.substr(at, end - at);
        at = end + 1;
        if (part.empty() || part == ".")
            continue;
        if (part == "..")
            return fail(Errc::root_invalid, in_quotes(path) + " leads out of the archive", "make it without ..");
        out.append(out.empty() ? "" : "/").append(part);
    }
    if (out.size() > longest_path)
        return fail(Errc::root_invalid, format("a path of %zu bytes: Linux takes %zu", out.size(), longest_path));
    return out;
}

/// What a file that ended early lacks is zero.
void CpioWriter::align() { bytes_.resize(align_up(bytes_.size() + std::exchange(open_, 0), 4)); }

Result<void> CpioWriter::write_header(std::string_view path, const Node& node, std::uint32_t number,
                                      std::uint32_t links, std::uint64_t size) {
    if (size > largest_file)
        return fail(Errc::root_invalid, in_quotes(path) + " has 4 GiB or more, which a RAM disk cannot hold",
                    "use an image in place of an archive");
    if (bytes_.size() + header_size + path.size() + size + 8 > most_)
        return fail(Errc::initrd_does_not_fit,
                    "the root does not fit: the guest's memory takes " + size_text(align_down(most_, MiB)) +
                        " of files",
                    "give the guest more memory, or use an image in place of an archive");
    align();
    const std::uint32_t fields[] = {number,
                                    node.mode,
                                    node.uid,
                                    node.gid,
                                    links,
                                    node.mtime,
                                    static_cast<std::uint32_t>(size),
                                    0,
                                    0,
                                    node.major,
                                    node.minor,
                                    static_cast<std::uint32_t>(path.size() + 1),
                                    0};
    std::string header = "070701";
    for (const auto value : fields)
        header += format("%08x", value);
    header.append(path).push_back('\0');
    const auto bytes = std::as_bytes(std::span{header});
    bytes_.insert(bytes_.end(), bytes.begin(), bytes.end());
    align();
    return {};
}

Result<void> CpioWriter::make_folders(std::string_view path) {
    for (auto slash = path.find('/'); slash != path.npos; slash = path.find('/', slash + 1)) {
        const auto folder = path.substr(0, slash);
        if (folders_.contains(folder))
            continue;
        folders_.emplace(folder, false);
        TRY_VOID(write_header(folder, {.mode = S_IFDIR | 0755U}, next_number_++, 2, 0));
    }
    return {};
}

Result<void> CpioWriter::begin(std::string_view path, const Node& node, std::uint64_t size) {
    const auto name = TRY(inner_path(path));
    if (name.empty())
        return {}; // the root itself is there
    TRY_VOID(make_folders(name));
    const auto number = next_number_++;
    align();
    const File file{bytes_.size(), number, node};
    TRY_VOID(write_header(name, node, number, 1, size));
    if (S_ISDIR(node.mode))
        folders_.insert_or_assign(name, true);
    else
        files_.insert_or_assign(name, file);
    open_ = size;
    return {};
}

void CpioWriter::append(std::span<const std::byte> piece) {
    const auto taken = piece.first(std::min<std::uint64_t>(piece.size(), open_));
    bytes_.insert(bytes_.end(), taken.begin(), taken.end());
    open_ -= taken.size();
}

Result<void> CpioWriter::add(std::string_view path, const Node& node, std::span<const std::byte> data) {
    TRY_VOID(begin(path, node, data.size()));
    append(data);
    return {};
}

/// Linux finds the two by their number, and only looks for those with more than one name.
Result<void> CpioWriter::link(std::string_view path, std::string_view to) {
    const auto target = TRY(inner_path(to));
    const auto found = files_.find(target);
    if (found == files_.end())
        return fail(Errc::root_invalid,
                    in_quotes(path) + " is a link to " + in_quotes(to) + ", which the archive does not have before it");
    const auto name = TRY(inner_path(path));
    TRY_VOID(make_folders(name));
    const File file = found->second;
    const auto two = format("%08x", 2U);
    std::ranges::copy(std::as_bytes(std::span{two}),
                      bytes_.begin() + static_cast<std::ptrdiff_t>(file.at + magic_size + links_field * field));
    TRY_VOID(write_header(name, file.node, file.number, 2, 0));
    files_.insert_or_assign(name, file);
    return {};
}

std::vector<std::byte> CpioWriter::finish() {
    most_ = UINT64_MAX;
    if (!write_header("TRAILER!!!", {.mode = 0}, 0, 1, 0)) // always fits
        bytes_.clear();
    return std::move(bytes_);
}

} // namespace inox::guest_root
