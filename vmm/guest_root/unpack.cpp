// SPDX-License-Identifier: Apache-2.0
#include "vmm/guest_root/unpack.hpp"

#include <archive.h>
#include <archive_entry.h>
#include <array>
#include <memory>
#include <sys/stat.h>

#include "vmm/base/bytes.hpp"
#include "vmm/config/config_text.hpp"

namespace inox::guest_root {
namespace {

constexpr std::size_t piece = 256 * KiB;
constexpr const char* damaged = "the file is truncated or damaged: fetch or build it again";

struct Closer {
    void operator()(archive* one) const { ::archive_read_free(one); }
};
using Reader = std::unique_ptr<archive, Closer>;
enum class Format : std::uint8_t { raw, tar };

Reader make_reader(Format format) {
    Reader reader{::archive_read_new()};
    if (!reader)
        return reader;
    ::archive_read_support_filter_gzip(reader.get());
    ::archive_read_support_filter_xz(reader.get());
    ::archive_read_support_filter_zstd(reader.get());
    ::archive_read_support_filter_bzip2(reader.get());
    format == Format::tar ? ::archive_read_support_format_tar(reader.get())
                          : ::archive_read_support_format_raw(reader.get());
    return reader;
}

std::unexpected<Error> failed(archive& reader, const std::string& path, Errc code) {
    const char* why = ::archive_error_string(&reader);
    return fail(code, "cannot read " + in_quotes(path) + ": " + printable(why == nullptr ? "damaged" : why), damaged);
}

bool opens(archive& reader, const std::string& path) {
    return ::archive_read_open_filename(&reader, path.c_str(), piece) == ARCHIVE_OK;
}
/// Warnings are about what is left out, such as a name's character set.
bool good(int code) { return code == ARCHIVE_OK || code == ARCHIVE_WARN; }

Result<void> add_data(archive& reader, const std::string& path, CpioWriter& out, const std::stop_token& stop) {
    std::vector<std::byte> buffer(piece);
    for (;;) {
        if (stop.stop_requested())
            return fail(Errc::wrong_state, in_quotes(path) + " was not read: the start was stopped");
        const auto count = ::archive_read_data(&reader, buffer.data(), buffer.size());
        if (count == 0)
            return {};
        if (count < 0)
            return failed(reader, path, Errc::root_invalid);
        out.append(std::span{buffer}.first(static_cast<std::size_t>(count)));
    }
}

Result<void> add_entry(archive& reader, archive_entry& entry, const std::string& path, const std::string& folder,
                       CpioWriter& out, const std::stop_token& stop) {
    const char* name = ::archive_entry_pathname(&entry);
    if (name == nullptr)
        return fail(Errc::root_invalid, in_quotes(path) + " has an entry without a name", damaged);
    const auto inside = folder + "/" + TRY(inner_path(name));
    if (const char* to = ::archive_entry_hardlink(&entry))
        return out.link(inside, folder + "/" + TRY(inner_path(to)));
    const CpioWriter::Node node{.mode = ::archive_entry_mode(&entry),
                                .uid = static_cast<std::uint32_t>(::archive_entry_uid(&entry)),
                                .gid = static_cast<std::uint32_t>(::archive_entry_gid(&entry)),
                                .mtime = static_cast<std::uint32_t>(::archive_entry_mtime(&entry)),
                                .major = static_cast<std::uint32_t>(::archive_entry_rdevmajor(&entry)),
                                .minor = static_cast<std::uint32_t>(::archive_entry_rdevminor(&entry))};
    if (S_ISLNK(node.mode)) {
        const char* to = ::archive_entry_symlink(&entry);
        return out.add(inside, node, std::string_view{to == nullptr ? "" : to});
    }
    if (!S_ISREG(node.mode))
        return out.add(inside, node);
    TRY_VOID(out.begin(inside, node, static_cast<std::uint64_t>(::archive_entry_size(&entry))));
    return add_data(reader, path, out, stop);
}

} // namespace

Result<std::vector<std::byte>> read_unpacked(const std::string& path, std::uint64_t most, Errc code) {
    const auto reader = make_reader(Format::raw);
    archive_entry* entry = nullptr;
    if (!reader || !opens(*reader, path) || !good(::archive_read_next_header(reader.get(), &entry)))
        return reader ? failed(*reader, path, code) : fail(Errc::host_error, "there is no memory left");
    std::vector<std::byte> out;
    for (;;) {
        const auto before = out.size();
        out.resize(before + piece);
        const auto count = ::archive_read_data(reader.get(), out.data() + before, piece);
        if (count < 0)
            return failed(*reader, path, code);
        out.resize(before + static_cast<std::size_t>(count));
        if (count == 0)
            return out;
        if (out.size() > most)
            return fail(code, in_quotes(path) + " has more than " + size_text(most) + " unpacked", damaged);
    }
}

bool is_tar(const std::string& path) {
    const auto reader = make_reader(Format::tar);
    archive_entry* entry = nullptr;
    return reader && opens(*reader, path) && good(::archive_read_next_header(reader.get(), &entry));
}

Result<void> add_tar(const std::string& path, const std::string& folder, CpioWriter& out, const std::stop_token& stop) {
    const auto reader = make_reader(Format::tar);
    if (!reader)
        return fail(Errc::host_error, "there is no memory left");
    if (!opens(*reader, path))
        return failed(*reader, path, Errc::root_invalid);
    TRY_VOID(out.add(folder, {.mode = S_IFDIR | 0755U}));
    for (;;) {
        archive_entry* entry = nullptr;
        const int code = ::archive_read_next_header(reader.get(), &entry);
        if (code == ARCHIVE_EOF)
            return {};
        if (!good(code))
            return failed(*reader, path, Errc::root_invalid);
        TRY_VOID(add_entry(*reader, *entry, path, folder, out, stop));
    }
}

} // namespace inox::guest_root
