/* What a C program would write instead of using the crate. The layouts are those of drm/xe_drm.h and linux/kfd_ioctl.h. */
#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/ioctl.h>

struct bind {
	uint64_t extensions;
	uint32_t vm_id, exec_queue_id, pad, num_binds;
	uint64_t op_extensions;
	uint32_t obj;
	uint16_t pat_index, op_pad;
	uint64_t obj_offset, range, addr;
	uint32_t op, flags, region, op_pad2;
	uint64_t op_reserved[3];
	uint32_t pad2, num_syncs;
	uint64_t syncs, reserved[2];
};

struct advise {
	uint64_t extensions, start, range;
	uint32_t vm_id, type;
	uint32_t devmem_fd;
	uint16_t policy, region;
	uint64_t value_reserved, reserved[2];
};

struct query {
	uint64_t extensions;
	uint32_t vm_id, count;
	uint64_t start, range, element, elements, reserved[2];
};

struct svm {
	uint64_t start, size;
	uint32_t op, count;
	struct { uint32_t type, value; } attributes[6];
};

static int call(int fd, unsigned long request, void *arg)
{
	int result;

	do
		result = ioctl(fd, request, arg);
	while (result == -1 && (errno == EINTR || errno == EAGAIN));
	return result == -1 ? -errno : 0;
}

static int bad(uint64_t start, uint64_t size)
{
	return ((start | size) & 4095) || start + size < start;
}

int raw_xe_prefetch(int fd, uint32_t vm, uint64_t start, uint64_t size, uint32_t region)
{
	struct bind arg = { .vm_id = vm, .num_binds = 1, .range = size, .addr = start, .op = 4, .region = region };

	return bad(start, size) ? -EINVAL : call(fd, 0x40886445, &arg);
}

int raw_xe_advise(int fd, uint32_t vm, uint64_t start, uint64_t size, uint32_t devmem_fd)
{
	struct advise arg = { .start = start, .range = size, .vm_id = vm, .type = 0, .devmem_fd = devmem_fd };

	return bad(start, size) ? -EINVAL : call(fd, 0x4040644c, &arg);
}

int raw_xe_query(int fd, uint32_t vm, uint64_t start, uint64_t size, void *elements, uint32_t count)
{
	struct query arg = { .vm_id = vm, .count = count, .start = start, .range = size, .element = 64,
			     .elements = (uint64_t)elements };
	int result = bad(start, size) ? -EINVAL : call(fd, 0xc040644d, &arg);

	return result ? result : (int)arg.count;
}

int raw_kfd_set(int fd, uint64_t start, uint64_t size, uint32_t gpu)
{
	struct svm arg = { .start = start, .size = size, .op = 0, .count = 2, .attributes = { { 2, gpu }, { 1, gpu } } };

	return bad(start, size) ? -EINVAL : call(fd, 0xc0284b20, &arg);
}

int raw_kfd_get(int fd, uint64_t start, uint64_t size, uint32_t gpu, uint32_t *preferred)
{
	struct svm arg = { .start = start, .size = size, .op = 1, .count = 6,
			   .attributes = { { 0, 0 }, { 1, 0 }, { 2, gpu }, { 5, 0 }, { 7, 0 }, { 6, 0 } } };
	int result = bad(start, size) ? -EINVAL : call(fd, 0xc0484b20, &arg);

	*preferred = arg.attributes[0].value;
	return result;
}
