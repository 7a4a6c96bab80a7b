# SPDX-License-Identifier: Apache-2.0
"""A movie clip with a camera motion that Blender's own tracker solved, from tracks whose truth is known."""

import bpy
import numpy as np

FOCAL_MM, SENSOR_MM = 40.0, 36.0


def travelling_cameras(count):
    """Camera to world of a camera that travels to the right, up and forward while it turns. OpenCV, [T, 4, 4]"""
    poses = np.tile(np.eye(4), (count, 1, 1))
    for pose, share in zip(poses, np.linspace(0, 1, count), strict=True):
        angle = 0.15 * share
        pose[:3, :3] = [[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]]
        pose[:3, 3] = 1.5 * share, 0.3 * np.sin(3 * share), 0.4 * share
    return poses


def scattered_points(count=40):
    """float64 [P, 3] before those cameras."""
    rng = np.random.default_rng(0)
    return np.column_stack([rng.uniform(-3, 3, count), rng.uniform(-1.5, 1.5, count), rng.uniform(5, 12, count)])


def pixels_of(points, camera_to_world, intrinsics):
    """Where a camera sees points, pixels from the top left edge. [P, 2]"""
    x, y, z = intrinsics @ ((points - camera_to_world[:3, 3]) @ camera_to_world[:3, :3]).T
    return np.stack([x / z, y / z], axis=-1)


def solve(clip, center=(0.0, 0.0), first_frame=1, noise_px=0.0, bend=None):
    """Track the points in a clip as its camera saw them and let Blender solve the motion.

    Args:
        clip: a movie clip.
        center: principal point, pixels right of and below the picture's middle.
        first_frame: the first clip frame that has tracks.
        noise_px: by how much each marker misses its point.
        bend: where the clip's lens puts points, square pixels -> stored pixels, [P, 2]; a plain pinhole when None.

    Returns:
        The truth: camera to world [T, 4, 4], points [P, 3], intrinsics [3, 3].
    """
    (width, height), tracking = clip.size, clip.tracking
    focal_px = FOCAL_MM / SENSOR_MM * width
    aspect = tracking.camera.pixel_aspect
    middle = width / 2 + center[0], height / aspect / 2 + center[1]
    intrinsics = np.array([[focal_px, 0, middle[0]], [0, focal_px, middle[1]], [0, 0, 1]])
    tracking.camera.sensor_width, tracking.camera.focal_length = SENSOR_MM, FOCAL_MM
    tracking.camera.principal_point_pixels = (middle[0], height - aspect * middle[1])
    rng = np.random.default_rng(1)
    cameras, points = travelling_cameras(clip.frame_duration), scattered_points()
    seen = np.stack([pixels_of(points, camera, intrinsics) for camera in cameras])
    if bend is not None:
        seen = bend(seen.reshape(-1, 2)).reshape(seen.shape)
    for number in range(len(points)):
        track = None
        for frame in range(first_frame, clip.frame_duration + 1):
            x, y = seen[frame - 1, number] + noise_px * rng.normal(size=2)
            if 0 < x < width and 0 < y < height:
                track = track or tracking.tracks.new(name=f"point {number}", frame=frame)
                track.markers.insert_frame(frame, co=(x / width, 1 - y / height))
    camera = next(item for item in tracking.objects if item.is_camera)
    camera.keyframe_a, camera.keyframe_b = first_frame, clip.frame_duration
    window = bpy.context.window_manager.windows[0]
    area = window.screen.areas[0]
    kind, area.type = area.type, "CLIP_EDITOR"
    area.spaces.active.clip = clip
    region = next(region for region in area.regions if region.type == "WINDOW")
    with bpy.context.temp_override(window=window, area=area, region=region):
        bpy.ops.clip.solve_camera()
    area.type = kind
    assert camera.reconstruction.is_valid
    return cameras, points, intrinsics
