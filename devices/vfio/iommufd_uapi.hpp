// SPDX-License-Identifier: Apache-2.0
// Kernel structures of iommufd and of VFIO's device files that Debian's headers do not declare yet (Linux 6.2 and 6.6).
// Names end in _uapi so that they cannot clash with the kernel's own once the headers have them.
#pragma once

#include <linux/ioctl.h>
#include <linux/types.h>

#include <cstddef>

namespace inox::devices::vfio::uapi {

// Ioctls of /dev/vfio/devices/vfioN

struct BindIommufd {
    static constexpr unsigned long request = _IO(';', 100 + 18);
    static constexpr __u32 flag_token = 1U << 0; ///< token_uuid_ptr points to 16 bytes
    __u32 argsz;
    __u32 flags;
    __s32 iommufd;
    __u32 out_devid;
    __u64 token_uuid_ptr;
};
static_assert(offsetof(BindIommufd, iommufd) == 8 && offsetof(BindIommufd, out_devid) == 12 &&
              offsetof(BindIommufd, token_uuid_ptr) == 16 && sizeof(BindIommufd) == 24);
/// What kernels without the token know.
inline constexpr __u32 bind_size_without_token = offsetof(BindIommufd, token_uuid_ptr);

struct AttachPageTable {
    static constexpr unsigned long request = _IO(';', 100 + 19);
    static constexpr __u32 flag_pasid = 1U << 0;
    __u32 argsz;
    __u32 flags;
    __u32 pt_id; ///< in: IOAS or page table; out: the page table in use
    __u32 pasid;
};
static_assert(offsetof(AttachPageTable, pt_id) == 8 && offsetof(AttachPageTable, pasid) == 12 &&
              sizeof(AttachPageTable) == 16);
inline constexpr __u32 attach_size_without_pasid = offsetof(AttachPageTable, pasid);

struct DetachPageTable {
    static constexpr unsigned long request = _IO(';', 100 + 20);
    static constexpr __u32 flag_pasid = 1U << 0;
    __u32 argsz;
    __u32 flags;
    __u32 pasid;
};
static_assert(offsetof(DetachPageTable, pasid) == 8 && sizeof(DetachPageTable) == 12);
inline constexpr __u32 detach_size_without_pasid = offsetof(DetachPageTable, pasid);

// Flags of VFIO_DEVICE_GET_PCI_HOT_RESET_INFO when the device was opened by its device file.
inline constexpr __u32 hot_reset_flag_dev_id = 1U << 0;       ///< the first member of an entry is an iommufd device id
inline constexpr __u32 hot_reset_flag_dev_id_owned = 1U << 1; ///< every affected device is this iommufd's
inline constexpr __u32 devid_owned = 0;
inline constexpr __u32 devid_not_owned = ~__u32{0};

// Ioctls of /dev/iommu

struct Destroy {
    static constexpr unsigned long request = _IO(';', 0x80);
    __u32 size;
    __u32 id;
};
static_assert(offsetof(Destroy, id) == 4 && sizeof(Destroy) == 8);

struct IoasAlloc {
    static constexpr unsigned long request = _IO(';', 0x81);
    __u32 size;
    __u32 flags;
    __u32 out_ioas_id;
};
static_assert(offsetof(IoasAlloc, out_ioas_id) == 8 && sizeof(IoasAlloc) == 12);

struct IovaRange {
    __u64 start;
    __u64 last; ///< inclusive
};
static_assert(sizeof(IovaRange) == 16);

struct IoasIovaRanges {
    static constexpr unsigned long request = _IO(';', 0x84);
    __u32 size;
    __u32 ioas_id;
    __u32 num_iovas; ///< in: room in the array; out: how many there are
    __u32 reserved;
    __u64 allowed_iovas; ///< pointer to IovaRange[]
    __u64 out_iova_alignment;
};
static_assert(offsetof(IoasIovaRanges, num_iovas) == 8 && offsetof(IoasIovaRanges, allowed_iovas) == 16 &&
              offsetof(IoasIovaRanges, out_iova_alignment) == 24 && sizeof(IoasIovaRanges) == 32);

struct IoasMap {
    static constexpr unsigned long request = _IO(';', 0x85);
    static constexpr __u32 flag_fixed_iova = 1U << 0;
    static constexpr __u32 flag_writeable = 1U << 1; ///< the device may write
    static constexpr __u32 flag_readable = 1U << 2;
    __u32 size;
    __u32 flags;
    __u32 ioas_id;
    __u32 reserved;
    __u64 user_va;
    __u64 length;
    __u64 iova;
};
static_assert(offsetof(IoasMap, ioas_id) == 8 && offsetof(IoasMap, user_va) == 16 && offsetof(IoasMap, length) == 24 &&
              offsetof(IoasMap, iova) == 32 && sizeof(IoasMap) == 40);

struct IoasUnmap {
    static constexpr unsigned long request = _IO(';', 0x86);
    __u32 size;
    __u32 ioas_id;
    __u64 iova;
    __u64 length; ///< out: bytes unmapped
};
static_assert(offsetof(IoasUnmap, iova) == 8 && offsetof(IoasUnmap, length) == 16 && sizeof(IoasUnmap) == 24);

struct HwptAlloc {
    static constexpr unsigned long request = _IO(';', 0x89);
    static constexpr __u32 flag_nest_parent = 1U << 0;
    static constexpr __u32 flag_pasid = 1U << 3;
    static constexpr __u32 data_none = 0;
    static constexpr __u32 data_vtd_s1 = 1;
    __u32 size;
    __u32 flags;
    __u32 dev_id;
    __u32 pt_id;
    __u32 out_hwpt_id;
    __u32 reserved;
    __u32 data_type;
    __u32 data_len;
    __u64 data_uptr;
    __u32 fault_id;
    __u32 reserved2;
};
static_assert(offsetof(HwptAlloc, out_hwpt_id) == 16 && offsetof(HwptAlloc, data_uptr) == 32 &&
              offsetof(HwptAlloc, fault_id) == 40 && sizeof(HwptAlloc) == 48);

/// Data of a first-stage page table in VT-d's format, which is x86-64's (HwptAlloc::data_vtd_s1).
struct VtdFirstStage {
    static constexpr __u64 supervisor_requests = 1;
    static constexpr __u64 write_protect = 4;
    __u64 flags;
    __u64 pgtbl_addr; ///< guest-physical: what the parent maps
    __u32 addr_width; ///< 48 or 57
    __u32 reserved;
};
static_assert(offsetof(VtdFirstStage, addr_width) == 16 && sizeof(VtdFirstStage) == 24);

struct HwptInvalidate {
    static constexpr unsigned long request = _IO(';', 0x8d);
    static constexpr __u32 data_vtd_s1 = 0;
    __u32 size;
    __u32 hwpt_id;
    __u64 data_uptr; ///< entries
    __u32 data_type;
    __u32 entry_len;
    __u32 entry_num; ///< in: how many; out: how many were done
    __u32 reserved;
};
static_assert(offsetof(HwptInvalidate, data_type) == 16 && sizeof(HwptInvalidate) == 32);

struct VtdInvalidateEntry {
    static constexpr __u64 everything = ~__u64{0};
    __u64 addr;
    __u64 npages;
    __u32 flags;
    __u32 reserved;
};
static_assert(offsetof(VtdInvalidateEntry, flags) == 16 && sizeof(VtdInvalidateEntry) == 24);

struct GetHwInfo {
    static constexpr unsigned long request = _IO(';', 0x8a);
    static constexpr __u32 type_none = 0;
    static constexpr __u32 type_intel_vtd = 1;
    static constexpr __u64 capability_pasid_exec = 2;
    static constexpr __u64 capability_pasid_privileged = 4;
    __u32 size;
    __u32 flags;
    __u32 dev_id;
    __u32 data_len;
    __u64 data_uptr;
    __u32 out_data_type;
    __u8 out_max_pasid_log2; ///< 0: no PASID
    __u8 reserved[3];
    __u64 out_capabilities;
};
static_assert(offsetof(GetHwInfo, data_uptr) == 16 && offsetof(GetHwInfo, out_max_pasid_log2) == 28 &&
              offsetof(GetHwInfo, out_capabilities) == 32 && sizeof(GetHwInfo) == 40);

} // namespace inox::devices::vfio::uapi
