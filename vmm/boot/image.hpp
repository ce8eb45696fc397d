// SPDX-License-Identifier: Apache-2.0
// A kernel or initrd while it is being read.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <stop_token>
#include <string>

#include "vmm/base/bytes.hpp"
#include "vmm/base/os.hpp"

namespace inox::boot {

/// Bytes of a file, or of memory (tests, the built-in guest). Reading never faults, also not when the file shrinks.
class Image {
public:
    /// What errors of this image are called.
    struct Role {
        const char* name; ///< "kernel"
        Errc missing;     ///< cannot be opened or read
        Errc invalid;     ///< ends early
    };
    static constexpr Role kernel{"kernel", Errc::kernel_missing, Errc::kernel_invalid};
    static constexpr Role initrd{"initrd", Errc::initrd_missing, Errc::initrd_missing};

    /// Bytes that are made when they are read.
    class Source {
    public:
        Source() = default;
        Source(const Source&) = delete;
        Source& operator=(const Source&) = delete;
        virtual ~Source() = default;
        virtual Result<void> read(std::uint64_t offset, std::span<std::byte> out) = 0;
        /// Makes them all, to know how many there are and whether they are whole.
        virtual Result<std::uint64_t> measure() = 0;
    };

    /// Opens a regular file or block device. Refuses an empty one. Reading fails soon once `stop` asks for it.
    static Result<Image> open(const std::string& path, const Role& role, std::stop_token stop = {});
    /// For tests. `bytes` must outlive the image.
    static Image of(std::span<const std::byte> bytes, std::string name, const Role& role);
    /// The image in other bytes, at most `largest`: `note` is for messages, as in "kernel 'path' (unpacked)".
    [[nodiscard]] Image with(std::unique_ptr<Source> source, std::uint64_t largest, const char* note) const;

    /// Of bytes that a source makes: the most there may be, until measure().
    [[nodiscard]] std::uint64_t size() const { return size_; }
    /// Reads all that a source makes. Nothing to do for others.
    Result<void> measure();
    /// Fails when whoever opened this image wants no more of it: for work between two reads.
    [[nodiscard]] Result<void> check_wanted() const;
    /// "kernel 'path'", for messages.
    [[nodiscard]] const std::string& name() const { return name_; }

    /// Fills `out` from `offset`; the role's `invalid` error when the image ends before.
    [[nodiscard]] Result<void> read(std::uint64_t offset, std::span<std::byte> out) const;
    template <GuestPod T> [[nodiscard]] Result<T> read(std::uint64_t offset) const {
        T value{};
        TRY_VOID(read(offset, std::as_writable_bytes(std::span{&value, 1})));
        return value;
    }
    /// Copies `size` bytes from `offset` to `to_offset` of another file, inside the host kernel. False when it cannot,
    /// for whatever reason: then read() does it or says why not. Moves the other file's offset.
    [[nodiscard]] bool send(std::uint64_t offset, std::uint64_t size, int to, std::uint64_t to_offset) const;
    /// kernel_invalid, with this image's name before `what`.
    [[nodiscard]] std::unexpected<Error> invalid(const std::string& what, std::string hint) const;

private:
    Image(std::string name, const Role& role) : role_{&role}, name_{std::move(name)} {}
    const Role* role_;
    std::string name_;
    UniqueFd file_{};
    std::span<const std::byte> bytes_{};
    std::unique_ptr<Source> source_{}; ///< null: a file or bytes_
    std::stop_token stop_{};
    std::uint64_t size_{};
};

} // namespace inox::boot
